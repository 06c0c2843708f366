#!/usr/bin/env bash
# Makes every result file in this folder anew. EMOSEG_DATA is the folder that holds MER_audio_taffc_dataset (4Q).
# Needs the extras cleanlab and opensmile, and hours.
set -euo pipefail
cd "$(dirname "$0")"
corpus="4q:${EMOSEG_DATA:?set it to the folder that holds MER_audio_taffc_dataset}/MER_audio_taffc_dataset"
plain=(--method mixup --method inherit)
field=(--method elr --method co-teaching --method mean-teacher --method confident --method attention-mil
  --method whole-song --method svm-compare --method sssl --method dividemix)

# What every method makes of every kind of label: the default and both plain ones with three seeds, all with one.
conditions() {
  local name=$1
  shift
  emoseg evaluate "$corpus" --folds 5 --seeds 3 --frontend descriptors "${plain[@]}" --method emoseg "$@" \
    --out "4q-descriptors-$name.json"
  emoseg evaluate "$corpus" --folds 5 --seeds 1 --frontend descriptors "${plain[@]}" "${field[@]}" --method emoseg "$@" \
    --out "4q-field-$name.json"
}
conditions clean
conditions segment0.4 --noise segment:0.4
conditions splice0.5 --noise splice:0.5
conditions song0.2 --noise song:0.2
conditions song0.4 --noise song:0.4
conditions fraction0.25 --fraction 0.25
conditions fraction0.1 --fraction 0.1

# What changed when segments that are not music were left out; the files 4q-field-* have the figures before.
music_only=(--folds 5 --seeds 1 --frontend descriptors --method inherit --method emoseg)
emoseg evaluate "$corpus" "${music_only[@]}" --out 4q-music-only-clean.json
emoseg evaluate "$corpus" "${music_only[@]}" --noise song:0.2 --out 4q-music-only-song0.2.json
emoseg evaluate "$corpus" "${music_only[@]}" --noise segment:0.4 --out 4q-music-only-segment0.4.json

# For comparison with the literature: 10 folds, by artist and random.
ten=(--folds 10 --seeds 1 --frontend descriptors "${plain[@]}" --method emoseg)
emoseg evaluate "$corpus" "${ten[@]}" --out 4q-descriptors-clean-10-folds.json
emoseg evaluate "$corpus" "${ten[@]}" --group none --out 4q-descriptors-clean-10-random-folds.json

# What each part of the default is worth.
python ablation.py "$corpus" 1 >ablation.json

# Segment length, at about equal numbers of steps.
for length in 1.5 5 10; do
  emoseg evaluate "$corpus" --folds 5 --seeds 3 --frontend descriptors --method mixup --config "segment-$length.toml" \
    --out "4q-descriptors-segments-of-${length}s.json"
done

# The log-mel network takes minutes a training: one seed.
emoseg evaluate "$corpus" --folds 5 --seeds 1 --frontend logmel --method mixup --out 4q-logmel-clean.json

python unsure.py "$corpus" >4q-unsure.json

# Real wrong labels: clips of EMOPIA with their song's label, segments of VGMIDI with their piece's. EMOSEG_RENDERED
# holds the folders emopia and vgmidi with the rendered audio, named as the MIDI files.
if [ -n "${EMOSEG_RENDERED:-}" ]; then
  real=(--folds 5 --frontend descriptors "${plain[@]}" "${field[@]}" --method emoseg)
  emoseg evaluate "emopia:$EMOSEG_DATA/emopia" --audio "$EMOSEG_RENDERED/emopia" --labels song "${real[@]}" --seeds 1 \
    --out emopia-descriptors.json
  vgmidi=("vgmidi:$EMOSEG_DATA/vgmidi" --audio "$EMOSEG_RENDERED/vgmidi")
  emoseg evaluate "${vgmidi[@]}" "${real[@]}" --seeds 3 --out vgmidi-descriptors.json
  emoseg evaluate "${vgmidi[@]}" --folds 5 --seeds 1 --frontend descriptors --method mixup --method emoseg --soft-labels \
    --out vgmidi-descriptors-soft.json
fi
