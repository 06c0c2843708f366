#!/usr/bin/env bash
# Learns the bundled model 4q anew. EMOSEG_DATA is the folder that holds MER_audio_taffc_dataset (4Q). The figures of
# its card are those of the result file that benchmarks/quality/run.sh writes first of all. espeak-ng must be installed.
set -euo pipefail
cd "$(dirname "$0")"
corpus="4q:${EMOSEG_DATA:?set it to the folder that holds MER_audio_taffc_dataset}/MER_audio_taffc_dataset"
bundled=../../src/emoseg/analysis/bundled
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

emoseg train "$corpus" --out "$work/4q" --measured ../quality/4q-descriptors-clean.json --notes notes.md
rm -rf "$bundled/4q"
emoseg model export "$work/4q" "$bundled/4q" --no-weights
python sounds.py "$bundled/4q"
