#!/usr/bin/env bash
# Makes every result file in this folder anew. EMOSEG_DATA is the folder that holds MER_audio_taffc_dataset (4Q).
set -euo pipefail
cd "$(dirname "$0")"
corpus="4q:${EMOSEG_DATA:?set it to the folder that holds MER_audio_taffc_dataset}/MER_audio_taffc_dataset"
all=(--frontend descriptors --method mixup --method sssl --method emoseg --group artist --folds 5 --seeds 3)
two=(--frontend descriptors --method mixup --method emoseg --group artist --folds 5 --seeds 3)

emoseg evaluate "$corpus" "${all[@]}" --out 4q-descriptors-clean.json
emoseg evaluate "$corpus" "${all[@]}" --noise segment:0.4 --out 4q-descriptors-segment0.4.json
emoseg evaluate "$corpus" "${two[@]}" --noise splice:0.5 --out 4q-descriptors-splice0.5.json
emoseg evaluate "$corpus" "${two[@]}" --noise song:0.2 --out 4q-descriptors-song0.2.json
