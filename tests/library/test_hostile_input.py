"""Odd names, closed folders, special files, signals: one line each, and everything else is done."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made import RATE, command, tone

from emoseg.analysis.analyzer import Analyzer
from emoseg.analysis.model_folder import CARD_FILE
from emoseg.emotion import QUADRANTS
from emoseg.tags.run import Source, tag_files
from emoseg.types import Analysis

LABELS = [*QUADRANTS.labels, "unsure", "tone", "noise", "speech"]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a song.flac", tone(1), RATE)
    return tmp_path / "a song.flac"


def unprivileged() -> list[str]:
    """Return what goes before a command so that it may not read what is closed to it, even if a superuser runs it."""
    if os.geteuid() != 0:
        return []
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("a superuser reads everything, and setpriv is not there to change that")
    return [program, "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_closed_folders_end_nothing(model: Path, song: Path, tmp_path: Path) -> None:
    """A sub-folder that cannot be listed and a path that cannot be searched are a line each; the others are done."""
    for name in ("open", "closed/inner"):
        (tmp_path / "music" / name).mkdir(parents=True)
        shutil.copy(song, tmp_path / "music" / name / "song.flac")
    closed = tmp_path / "music" / "closed"
    hidden = closed / "inner" / "song.flac"
    closed.chmod(0)
    try:
        done = subprocess.run(
            [*unprivileged(), *command("analyze", tmp_path / "music", hidden, "--model", model, "--json")],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        closed.chmod(0o700)
    assert done.returncode == 1
    assert done.stderr == ""
    good, unlisted, unsearchable = map(json.loads, done.stdout.splitlines())
    assert good["song"]["label"] in LABELS
    assert unlisted["error"] == {"type": "unreadable", "message": f"{closed}: cannot be listed: Permission denied"}
    assert unsearchable["error"]["type"] == "unreadable"
    assert unsearchable["error"]["message"].endswith("song.flac: cannot be read: Permission denied")


def test_no_recording_ends_a_run(model: Path, song: Path, tmp_path: Path) -> None:
    """Names, numbers and files of all odd kinds: a line each, the others done, and results of all that were done."""
    music, out = tmp_path / "music", tmp_path / "out"
    music.mkdir()
    long, bad = music / f"{'n' * 250}.flac", Path(os.fsdecode(os.fsencode(music) + b"/bad\xff.flac"))
    for path in (music / "a.flac", long, bad):
        shutil.copy(song, path)
    os.mkfifo(music / "pipe.mp3")
    samples, rate = soundfile.read(song, dtype="float32")
    for name, value in (("nan", np.nan), ("loud", 1e20)):
        samples[5000] = value
        soundfile.write(music / f"{name}.wav", samples, rate, subtype="FLOAT")
    future = (2400 - 1970) * 31556952
    os.utime(music / "a.flac", (future, future))
    formats = [f"--format={name}" for name in ("json", "csv", "html", "audacity", "jsonl", "parquet")]
    paths = [str(music), "x" * 5000, "null\udcffname", str(tmp_path / "none.mp3")]
    done = subprocess.run(
        command("analyze", *paths, "--model", model, *formats, "--out", out),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    causes = [line for line in done.stderr.splitlines() if not line.startswith("analysing")]
    for part in ("pipe.mp3: is not a regular file", "nan.wav: has a sample at", "loud.wav: has a sample of 1e+20 at"):
        assert sum(part in line for line in causes) == 1
    assert len(causes) == 6
    assert [p.name for p in out.rglob("a.flac.*")] != []
    assert len(list(out.rglob("*.json"))) == len(list(out.rglob("*.html"))) == 3
    lines = [json.loads(line) for line in (out / "emotions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum("song" in line for line in lines) == 3
    assert sum("error" in line for line in lines) == 6
    assert str(music / "bad\\xff.flac") in [line["path"] for line in lines]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_results_are_written_as_they_come(model: Path, song: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Ended after the first recording, with a second that never comes: the first is in every output."""
    os.mkfifo(tmp_path / "waits.mp3")
    code = (
        "import signal, sys, time; from emoseg.analysis.analyzer import Analyzer; from emoseg.cli.app import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which may be ignored where tests run
        "analyze = Analyzer.analyze\n"
        "def waiting(self, path, **how):\n"
        "    if str(path).endswith('waits.mp3'):\n"
        "        print('waits', file=sys.stderr, flush=True)\n"
        "        time.sleep(600)\n"
        "    return analyze(self, path, **how)\n"
        "Analyzer.analyze = waiting\n"
        "main()\n"
    )
    arguments = [str(song), str(tmp_path / "waits.mp3"), "--model", str(model), "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-c", code, "analyze", *arguments, "--format=jsonl", "--format=parquet", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waits\n"
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
    assert err == ("emoseg: interrupted\n" if how == signal.SIGINT else "")
    assert song.name in out
    written = {p.name: p for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")}
    assert json.loads(written["emotions.jsonl"].read_text(encoding="utf-8"))["song"]["label"]
    if how != signal.SIGKILL:  # a Parquet file has its table of contents at its end
        pq = pytest.importorskip("pyarrow.parquet")
        assert pq.read_table(written["emotions.parquet"]).num_rows > 0
        assert list((tmp_path / "out").glob(".emoseg-*")) == []


HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m.flac"


@pytest.mark.skipif(os.name != "posix", reason="names that Windows does not allow")
def test_nothing_steers_the_terminal(model: Path, song: Path, tmp_path: Path) -> None:
    """No command passes on the control characters of a name, a label, or a model card."""
    music = tmp_path / "folder"
    for label in ("happy\x1b[31m", "sad"):
        (music / label).mkdir(parents=True)
        shutil.copy(song, music / label / HOSTILE)
        (music / label / f"broken{HOSTILE}").write_text("no sound")
    harmed = tmp_path / "model"
    shutil.copytree(model, harmed)
    (harmed / CARD_FILE).write_text("# card \x1b]0;owned\x07 \x9b31m\n")
    library = str(tmp_path / "library")
    for arguments in (
        ["analyze", str(music), "--model", str(model)],
        ["analyze", str(music), "--model", str(model), "--json"],
        ["analyze", str(music / HOSTILE)],
        ["batch", str(music), "--model", str(model), "--out", library],
        ["batch", str(music), "--model", str(model), "--out", library, "--json"],
        ["library", library, "--most", "calm"],
        ["library", library, "--most", "calm", "--json"],
        ["library", library, "--sql", "select * from failures"],
        ["library", library, "--most", "\x1b[31m"],
        ["tag", str(music), "--model", str(model)],
        ["tag", str(music), "--model", str(model), "--json"],
        ["corpus", "check", f"folder:{music}"],
        ["corpus", "check", f"folder:{music}", "--json"],
        ["model", "show", str(harmed)],
        ["model", "show", "no\x1b[31mmodel"],
        ["train", f"folder:{music}", "--out", str(music)],
        ["evaluate", "nothing\x1b[31m:x", "--out", str(tmp_path / "r.json")],
        ["no\x1b[31mcommand"],
    ):
        done = subprocess.run(command(*arguments), capture_output=True, check=False, timeout=120)
        for text in (done.stdout.decode(), done.stderr.decode()):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text), (arguments, text)
            assert "Traceback" not in text
        assert done.stdout + done.stderr


def test_tagging_goes_on_after_what_nobody_expected(model: Path, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mutagen", reason="needs the extra tags")
    other = song.with_name("other.flac")
    shutil.copy(song, other)
    analyze = Analyzer.analyze

    def failing(self: Analyzer, source: Path) -> Analysis:
        if source == song:
            raise ZeroDivisionError("of a library")
        return analyze(self, source)

    monkeypatch.setattr(Analyzer, "analyze", failing)
    first, second = tag_files(Source([song, other], model=model))
    assert (first.plan, first.error) == (None, f"{song}: ZeroDivisionError: of a library")
    assert second.plan is not None
    assert second.path == other
