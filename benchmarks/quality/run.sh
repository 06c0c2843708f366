#!/usr/bin/env bash
# Makes every result file in this folder anew. EMOSEG_DATA is the folder that holds MER_audio_taffc_dataset (4Q).
set -euo pipefail
cd "$(dirname "$0")"
corpus="4q:${EMOSEG_DATA:?set it to the folder that holds MER_audio_taffc_dataset}/MER_audio_taffc_dataset"
setting=(--group artist --folds 5 --seeds 3)
methods=(--frontend descriptors --method mixup --method inherit --method emoseg)

emoseg evaluate "$corpus" "${setting[@]}" "${methods[@]}" --method sssl --out 4q-descriptors-clean.json
emoseg evaluate "$corpus" "${setting[@]}" "${methods[@]}" --method sssl --noise segment:0.4 --out 4q-descriptors-segment0.4.json
emoseg evaluate "$corpus" "${setting[@]}" "${methods[@]}" --noise song:0.4 --out 4q-descriptors-song0.4.json
emoseg evaluate "$corpus" "${setting[@]}" "${methods[@]}" --fraction 0.25 --out 4q-descriptors-fraction0.25.json
emoseg evaluate "$corpus" "${setting[@]}" "${methods[@]}" --noise splice:0.5 --out 4q-descriptors-splice0.5.json
emoseg evaluate "$corpus" "${setting[@]}" "${methods[@]}" --fraction 0.1 --out 4q-descriptors-fraction0.1.json
emoseg evaluate "$corpus" "${setting[@]}" "${methods[@]}" --noise song:0.2 --out 4q-descriptors-song0.2.json

# Segment length, at about equal numbers of steps.
for length in 1.5 5 10; do
  emoseg evaluate "$corpus" "${setting[@]}" --frontend descriptors --method mixup --config "segment-$length.toml" \
    --out "4q-descriptors-segments-of-${length}s.json"
done

# The log-mel network takes minutes a training: one seed.
emoseg evaluate "$corpus" --group artist --folds 5 --seeds 1 --frontend logmel --method mixup --out 4q-logmel-clean.json

python unsure.py "$corpus" >4q-unsure.json

# Real wrong labels: clips of EMOPIA with their song's label, segments of VGMIDI with their piece's. EMOSEG_RENDERED
# holds the folders emopia and vgmidi with the rendered audio, named as the MIDI files.
if [ -n "${EMOSEG_RENDERED:-}" ]; then
  real=(--folds 5 --seeds 1 --frontend descriptors --method mixup --method emoseg)
  emoseg evaluate "emopia:$EMOSEG_DATA/emopia" --audio "$EMOSEG_RENDERED/emopia" --labels song "${real[@]}" \
    --out emopia-descriptors.json
  vgmidi=("vgmidi:$EMOSEG_DATA/vgmidi" --audio "$EMOSEG_RENDERED/vgmidi")
  emoseg evaluate "${vgmidi[@]}" "${real[@]}" --out vgmidi-descriptors.json
  emoseg evaluate "${vgmidi[@]}" "${real[@]}" --soft-labels --out vgmidi-descriptors-soft.json
fi
