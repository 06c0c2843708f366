"""Measure the answers of a model for sounds that are not music, and append them to the model's card.

    python benchmarks/model/sounds.py MODEL_FOLDER

Writes ``sounds.json`` beside this file. Needs espeak-ng, whose voices are the speech.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import TypedDict

import numpy as np

from emoseg.analysis.analyzer import Analyzer
from emoseg.analysis.model_folder import CARD_FILE
from emoseg.audio.reader import read
from emoseg.errors import AudioError
from emoseg.types import Float32

HERE = Path(__file__).parent
RATE, SECONDS = 22050, 30
TEXTS = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
VOICES = [f"{language}{variant}" for language in TEXTS for variant in ("", "+f3")]


TITLE = (
    f"For each sound of {SECONDS} s (speech: until its text ends) the answer for the whole, and the number of segments "
    'with each answer (`benchmarks/model/sounds.py`). "Refused" means that the recording was not analysed, '
    "and one line gave the reason."
)


class SoundAnswer(TypedDict):
    sound: str
    answer: str
    segments: dict[str, int]


def sounds() -> dict[str, Float32]:
    rng, t = np.random.default_rng(0), np.arange(SECONDS * RATE) / RATE
    noise = rng.standard_normal(len(t))
    spectrum = np.fft.rfft(noise)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), len(t))
    made = {
        "white noise": 0.1 * noise,
        "pink noise": 0.1 * pink / pink.std(),
        "digital silence": 0 * t,
        "hiss at -80 dBFS": 1e-4 * noise,
        "sine, 100 Hz": 0.3 * np.sin(2 * np.pi * 100 * t),
        "sine, 440 Hz": 0.3 * np.sin(2 * np.pi * 440 * t),
        "sine, 1 kHz": 0.3 * np.sin(2 * np.pi * 1000 * t),
    }
    return {name: np.asarray(sound, dtype=np.float32) for name, sound in made.items()} | {
        f"speech, espeak-ng {voice}": spoken(voice) for voice in VOICES
    }


def spoken(voice: str) -> Float32:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "voice.wav")
        subprocess.run(["espeak-ng", "-v", voice, "-w", file, TEXTS[voice.partition("+")[0]]], check=True)
        return read(file, sample_rate_hz=RATE).samples


def listen(analyzer: Analyzer) -> list[SoundAnswer]:
    answers: list[SoundAnswer] = []
    for name, sound in sounds().items():
        try:
            analysis = analyzer.analyze(sound, sample_rate_hz=RATE)
        except AudioError as error:
            answers.append({"sound": name, "answer": f"refused ({error.kind})", "segments": {}})
            continue
        counts = Counter(segment.label for segment in analysis.segments)
        answers.append({"sound": name, "answer": analysis.song.label, "segments": dict(counts.most_common())})
    return answers


def section(answers: list[SoundAnswer]) -> str:
    rows = [
        f"| {h['sound']} | {h['answer']} | {', '.join(f'{label} {n}' for label, n in h['segments'].items())} |"
        for h in answers
    ]
    return "\n".join(
        [
            "",
            "## Answers for sounds that are not music",
            "",
            TITLE,
            "",
            "| sound | answer | segments |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL_FOLDER")
    model = parser.parse_args().model
    answers = listen(Analyzer(model))
    (HERE / "sounds.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
    with (model / CARD_FILE).open("a", encoding="utf-8") as card:
        card.write(section(answers))


if __name__ == "__main__":
    main()
