"""Fit the weights of `emoseg.audio.sound_kind` and measure its errors.

    python benchmarks/quality/sound_kind.py --music 4Q_FOLDER --speech FOLDER [--speech FOLDER]...

Music: every recording below the folder. Speech: each folder is a voice, its recordings joined; Debian's packages
asterisk-core-sounds-{en,es,fr,it}-wav hold four human voices, espeak-ng reads as many others as wanted. Speech is also
played with noise at 30, 20 and 12 dB and in a room. Weights are fitted on one half of songs and voices and measured on
the other, then fitted on everything; what the module holds is measured last.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve
from sklearn.linear_model import LogisticRegression

from emoseg.audio.find import find_recordings
from emoseg.audio.reader import SegmentReader, read
from emoseg.audio.sound_kind import MEASURES, SPEECH_ODDS, sound_evidence, sound_kinds, speech_measures
from emoseg.config import SegmentConfig
from emoseg.types import Float32, Float64, Recording

RATE = 22050
VOICE_S = 150


def segments_of(source: Path | Recording) -> Float32:
    return np.concatenate([batch.samples for batch in SegmentReader(source, segment=SegmentConfig())])


def voices(folder: Path) -> dict[str, Float32]:
    rng = np.random.default_rng(0)
    # The packages hold silence as well.
    spoken = (file for file in find_recordings(folder) if file.parent.name != "silence")
    files = sorted(spoken, key=lambda file: -file.stat().st_size)
    sound = np.concatenate([read(file, sample_rate_hz=RATE).samples for file in files[:80]])[: VOICE_S * RATE]
    spectrum = np.fft.rfft(rng.standard_normal(len(sound)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), len(sound))
    noise *= sound.std() / noise.std()
    room = rng.standard_normal(RATE // 2) * np.exp(-6.9 * np.linspace(0, 1, RATE // 2))
    room *= 0.5 / np.linalg.norm(room)
    room[0] = 1.0
    versions = {"clean": sound, "room": fftconvolve(sound, room)[: len(sound)]}
    versions |= {f"{snr} dB": sound + noise * 10 ** (-snr / 20) for snr in (30, 20, 12)}
    return {name: np.asarray(0.5 * v / np.abs(v).max(), dtype=np.float32) for name, v in versions.items()}


def measures(segments: Float32) -> Float64:
    sounding = segments[np.sqrt(np.mean(segments**2, axis=1)) > 1e-3]
    return np.array([speech_measures(segment, RATE) for segment in sounding]).reshape(-1, len(MEASURES))


def fit(music: Float64, speech: Float64) -> tuple[Float64, float]:
    table = np.concatenate([music, speech])
    label = np.repeat([0, 1], [len(music), len(speech)])
    mean, scale = table.mean(axis=0), table.std(axis=0)
    model = LogisticRegression(C=0.3, class_weight="balanced").fit((table - mean) / scale, label)
    weights = model.coef_[0] / scale
    return weights, float(model.intercept_[0] - weights @ mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--music", type=Path, required=True)
    parser.add_argument("--speech", type=Path, action="append", required=True)
    parser.add_argument("--every", type=int, default=3, help="fit on every n-th song; all are measured")
    options = parser.parse_args()
    songs = find_recordings(options.music)
    music = [measures(segments_of(song)) for song in songs[:: options.every]]
    speakers = [voices(folder) for folder in options.speech]
    speech = [{name: measures(segments_of(Recording(s, RATE))) for name, s in voice.items()} for voice in speakers]
    for half in (0, 1):
        weights, bias = fit(
            np.concatenate(music[half::2]), np.concatenate([t for v in speech[half::2] for t in v.values()])
        )
        wrong = np.mean(np.concatenate(music[1 - half :: 2]) @ weights + bias > SPEECH_ODDS)
        found = {
            name: round(
                float(np.mean(np.concatenate([v[name] for v in speech[1 - half :: 2]]) @ weights + bias > SPEECH_ODDS)),
                3,
            )
            for name in speech[0]
        }
        print(f"half {half}: single music segments called speech {wrong:.4f}; speech found", found)
    weights, bias = fit(np.concatenate(music), np.concatenate([t for v in speech for t in v.values()]))
    print("weights", dict(zip(MEASURES, np.round(weights, 3).tolist(), strict=True)), "bias", round(bias, 2))
    report("music", [segments_of(song) for song in songs])
    for name in speech[0]:
        report(f"speech, {name}", [segments_of(Recording(voice[name], RATE)) for voice in speakers])


def report(name: str, recordings: list[Float32]) -> None:
    kinds: list[str] = []
    whole = 0
    for segments in recordings:
        found = sound_kinds(sound_evidence(segments, RATE), 3.0 * np.arange(len(segments), dtype=np.float64))
        whole += sum(kind == "music" for kind in found) < 0.25 * len(found)
        kinds += found
    shares = {kind: round(kinds.count(kind) / len(kinds), 4) for kind in sorted(set(kinds))}
    print(f"{name}: {len(kinds)} segments {shares}; recordings not named music {whole} of {len(recordings)}")


if __name__ == "__main__":
    main()
