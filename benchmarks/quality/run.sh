#!/usr/bin/env bash
# Makes every result file in this folder anew (those of version 0.1.0 call mixup inherit). EMOSEG_DATA is the folder that holds MER_audio_taffc_dataset (4Q).
set -euo pipefail
cd "$(dirname "$0")"
corpus="4q:${EMOSEG_DATA:?set it to the folder that holds MER_audio_taffc_dataset}/MER_audio_taffc_dataset"
both=(--method mixup --method sssl --group artist --folds 5 --seeds 3)

emoseg evaluate "$corpus" --frontend descriptors "${both[@]}" --out 4q-descriptors-clean.json
emoseg evaluate "$corpus" --frontend descriptors "${both[@]}" --noise segment:0.4 --out 4q-descriptors-segment0.4.json
emoseg evaluate "$corpus" --frontend logmel --method mixup --group artist --folds 5 --seeds 1 \
  --out 4q-logmel-clean-inherit-seed0.json
emoseg evaluate "$corpus" --config ../../configs/logmel.toml --method mixup --group artist --folds 5 --seeds 1 \
  --out 4q-logmel-clean-inherit-seed0-light.json
