"""Tags: the right fields in every container, never over a user's mood, the sound untouched, undone to the byte."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import RATE, Call, refused, tone
from tinytag import TinyTag

from emoseg.emotion import QUADRANTS, EmotionSpace
from emoseg.errors import AudioError, MissingExtraError
from emoseg.library import run_batch
from emoseg.tags import SongFacts, TagPlan, TagProcess, UndoFile, plan_tags, undo_tags, write_tags
from emoseg.tags.delta import Difference, difference
from emoseg.tags.fields import mood_word, own_fields
from emoseg.tags.undo import UndoEntry, packed, read_undo

mutagen = pytest.importorskip("mutagen", reason="needs the extra tags")
FACTS = SongFacts("Q4", 0.874, 0.5, -0.98, "tiny 1")
OWN = {
    "EMOSEG_MOOD": "Calm",
    "EMOSEG_LABEL": "Q4",
    "EMOSEG_CONFIDENCE": "087",
    "EMOSEG_VALENCE": "075",
    "EMOSEG_AROUSAL": "001",
    "EMOSEG_SCALE": "000-100; valence and arousal: 050 is neutral",
    "EMOSEG_MODEL": "tiny 1",
}
CODECS: dict[str, list[str]] = {
    ".mp3": ["-c:a", "libmp3lame"],
    ".flac": ["-c:a", "flac"],
    ".ogg": ["-c:a", "libvorbis"],
    ".opus": ["-c:a", "libopus"],
    ".m4a": ["-c:a", "aac"],
    ".wav": ["-c:a", "pcm_s16le"],
    ".aiff": ["-c:a", "pcm_s16be", "-write_id3v2", "1"],
    ".wma": ["-c:a", "wmav2"],
    ".wv": ["-c:a", "wavpack"],
}
ffmpeg = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(ffmpeg is None, reason="the files of these tests are made, and read back, by ffmpeg")


PROCESS = TagProcess()


@pytest.fixture(scope="module", autouse=True)
def process() -> Iterator[None]:
    with PROCESS:
        yield


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same sound in every container, with a title."""
    root = tmp_path_factory.mktemp("encoded")
    soundfile.write(root / "sound.wav", tone(3, seconds=3), RATE)
    for suffix, codec in CODECS.items():
        encode(root / "sound.wav", root / f"song{suffix}", *codec, "-metadata", "title=Jóga")
    (root / "sound.wav").unlink()
    return root


def encode(source: Path, target: Path, *options: str) -> None:
    subprocess.run(
        [str(ffmpeg), "-v", "error", "-y", "-i", source, "-map", "0:a", *options, target],
        check=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(params=sorted(CODECS))
def song(request: pytest.FixtureRequest, encoded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy2(encoded / f"song{request.param}", tmp_path))


@pytest.fixture
def undo(tmp_path: Path) -> UndoFile:
    return UndoFile(tmp_path / "undo.jsonl")


def payload(file: Path) -> str:
    """Return the checksum of the encoded sound, as another program takes it out of the container."""
    done = subprocess.run(
        [str(ffmpeg), "-v", "error", "-i", file, "-map", "0:a", "-c", "copy", "-f", "streamhash", "-"],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.decode()


def read_back(file: Path) -> dict[str, str]:
    """Return the tags as ffprobe reads them, names in upper case."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "format_tags:stream_tags", "-of", "json", file],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    reported = json.loads(done.stdout)
    parts = [reported.get("format", {}), *reported.get("streams", [])]
    return {name.upper(): value for part in parts for name, value in part.get("tags", {}).items()}


def tagged(song: Path, undo: UndoFile, facts: SongFacts = FACTS, **options: Any) -> TagPlan:
    plan = planned(song, facts)
    write_tags(plan, undo, process=PROCESS, **options)
    return plan


def planned(song: Path, facts: SongFacts = FACTS) -> TagPlan:
    return plan_tags(song, facts, QUADRANTS, process=PROCESS)


def entries(undo: UndoFile) -> list[UndoEntry]:
    """Return the entries of an undo file, which holds nothing else."""
    found = list(read_undo(undo.path))
    assert all(isinstance(entry, UndoEntry) for entry in found)
    return [entry for entry in found if isinstance(entry, UndoEntry)]


MOOD_NAMES = {".mp3": "TMOO", ".wav": "TMOO", ".aiff": "TMOO", ".wma": "WM/MOOD"}
SEPARATORS = {".wma": "EMOSEG/"}


# --- what is written -------------------------------------------------------------------------------------------------


def test_fields_are_what_another_program_reads(song: Path, undo: UndoFile) -> None:
    before = payload(song)
    plan = tagged(song, undo)
    assert (plan.mood, plan.user_mood, plan.before) == ("Calm", None, {})
    if song.suffix == ".wav":  # ffprobe reads no ID3 in WAV
        tag = TinyTag.get(song)
        assert {k.upper(): v[0] for k, v in tag.other.items() if k.startswith("emoseg")} == OWN
    else:
        found = read_back(song)
        prefix = SEPARATORS.get(song.suffix, "EMOSEG_")
        own = {name.replace(prefix, "EMOSEG_", 1): value for name, value in found.items() if name.startswith(prefix)}
        assert own == OWN
        assert found[MOOD_NAMES.get(song.suffix, "MOOD")] == "Calm"
        assert found["TITLE"] == "Jóga", "what was there stays"
    assert payload(song) == before
    assert list(song.parent.iterdir()) in ([song, undo.path], [undo.path, song])


def test_a_second_time_nothing_changes(song: Path, undo: UndoFile) -> None:
    tagged(song, undo)
    plan = planned(song)
    assert not plan.changes
    assert plan.line() == "up to date"


def test_emosegs_own_mood_follows_a_new_answer(song: Path, undo: UndoFile) -> None:
    tagged(song, undo)
    plan = tagged(song, undo, SongFacts("Q2", 0.6, -0.4, 0.4, "tiny 2"))
    assert plan.mood == "Tense"
    after = planned(song)
    assert (after.old_mood, after.user_mood) == (("Tense",), None)
    # An answer that leaves the emotion open takes emoseg's own mood away.
    open_plan = tagged(song, undo, SongFacts("unsure", 0.3, 0.0, 0.0, "tiny 2"))
    assert open_plan.mood == ""
    assert planned(song).old_mood == ()


def test_undo_restores_every_byte(song: Path, undo: UndoFile) -> None:
    os.utime(song, ns=(1_600_000_000_000_000_000, 1_600_000_000_123_456_000))
    before, mtime_ns = song.read_bytes(), song.stat().st_mtime_ns
    tagged(song, undo)
    tagged(song, undo, SongFacts("Q1", 0.9, 0.9, 0.9, "tiny 1"))
    assert song.read_bytes() != before
    assert [undo_tags(entry) for entry in entries(undo)] == ["restored", "restored"]
    assert song.read_bytes() == before
    assert song.stat().st_mtime_ns == mtime_ns
    assert undo.path.stat().st_size < 20_000, "the sound is not in it"
    # Once more: the later change is not there any more, the earlier is undone already.
    later, earlier = entries(undo)
    with pytest.raises(AudioError, match="was changed after its tags were written; left alone"):
        undo_tags(later)
    assert undo_tags(earlier) == "as it was"


# --- a user's own mood -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".opus", ".m4a", ".wma", ".wv"])
def test_a_users_mood_stays(encoded: Path, tmp_path: Path, undo: UndoFile, suffix: str) -> None:
    song = Path(shutil.copy2(encoded / f"song{suffix}", tmp_path))
    plan = tagged(song, undo)
    # The user sets a mood with another program, over the one that emoseg wrote.
    file = mutagen.File(song)
    value: Any = {".mp3": mutagen.id3.TMOO(3, ["Party"]), ".m4a": [b"Party"], ".wv": "Party"}.get(suffix, ["Party"])
    file[plan.mood_field] = value
    file.save()
    plan = tagged(song, undo, SongFacts("Q3", 0.9, -0.9, -0.9, "tiny 1"))
    assert (plan.mood, plan.user_mood) == (None, "Party")
    assert "keeps its own mood 'Party'" in plan.line()
    found = read_back(song)
    assert found[MOOD_NAMES.get(suffix, "MOOD")] == "Party"
    assert found["EMOSEG/MOOD" if suffix == ".wma" else "EMOSEG_MOOD"] == "Sad"
    assert not planned(song, SongFacts("Q3", 0.9, -0.9, -0.9, "tiny 1")).changes


def test_a_users_second_mood_and_odd_spelling_count(encoded: Path, tmp_path: Path, undo: UndoFile) -> None:
    song = Path(shutil.copy2(encoded / "song.flac", tmp_path))
    file = mutagen.File(song)
    file["mood"] = ["Calm", "Dreamy"]
    file["emoseg_mood"] = ["Calm"]
    file.save()
    plan = tagged(song, undo)
    assert (plan.mood, plan.user_mood) == (None, "Calm / Dreamy")
    assert mutagen.File(song)["mood"] == ["Calm", "Dreamy"]

    song = Path(shutil.copy2(encoded / "song.mp3", tmp_path))
    file = mutagen.File(song)
    file.tags.add(mutagen.id3.TXXX(3, "Mood", ["Rainy"]))
    file.save()
    assert planned(song).user_mood == "Rainy"


# --- ID3 versions, files without tags --------------------------------------------------------------------------------


def test_id3_2_3_stays_2_3(encoded: Path, tmp_path: Path, undo: UndoFile) -> None:
    song = tmp_path / "old.mp3"
    encode(encoded / "song.wav", song, "-id3v2_version", "3", "-metadata", "title=Jóga", "-metadata", "date=1997")
    assert song.read_bytes()[:4] == b"ID3\x03"
    plan = tagged(song, undo)
    assert plan.mood_field == "TXXX:MOOD"
    assert song.read_bytes()[:4] == b"ID3\x03"
    found = read_back(song)
    assert (found["MOOD"], found["EMOSEG_VALENCE"], found["TITLE"], found["DATE"]) == ("Calm", "075", "Jóga", "1997")
    tag = TinyTag.get(song)
    assert (tag.title, tag.year) == ("Jóga", "1997")
    assert planned(song).changes is False


def test_files_without_any_tags(tmp_path: Path, undo: UndoFile) -> None:
    for suffix in (".wav", ".mp3", ".flac", ".ogg"):
        song = tmp_path / f"bare{suffix}"
        soundfile.write(song, tone(1, seconds=2), RATE)
        before = song.read_bytes()
        samples = soundfile.read(song)[0]
        tagged(song, undo)
        assert np.array_equal(soundfile.read(song)[0], samples)
        assert planned(song).before == OWN
        assert undo_tags(entries(undo)[0]) == "restored"
        assert song.read_bytes() == before


# --- modification time, links, permissions ---------------------------------------------------------------------------


def test_the_modification_time_is_kept_on_request(encoded: Path, tmp_path: Path, undo: UndoFile) -> None:
    song = Path(shutil.copy2(encoded / "song.flac", tmp_path))
    os.utime(song, (1, 1))
    tagged(song, undo, keep_mtime=True)
    assert song.stat().st_mtime == 1
    tagged(song, undo, SongFacts("Q1", 0.9, 0.9, 0.9, "tiny 1"))
    assert song.stat().st_mtime > 1e9


@pytest.mark.skipif(os.name != "posix", reason="needs links and permissions")
def test_links_and_permissions_stay(encoded: Path, tmp_path: Path, undo: UndoFile) -> None:
    real = Path(shutil.copy2(encoded / "song.flac", tmp_path / "real.flac"))
    real.chmod(0o640)
    link = tmp_path / "link.flac"
    link.symlink_to("real.flac")
    tagged(link, undo)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert planned(real).before == OWN
    real.chmod(0o444)
    before = real.read_bytes()
    with pytest.raises(AudioError, match=r"link.flac: is read-only"):
        tagged(link, undo, SongFacts("Q1", 0.9, 0.9, 0.9, "tiny 1"))
    assert real.read_bytes() == before


def test_a_crash_between_note_and_file_is_undone_as_nothing(
    encoded: Path, tmp_path: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = Path(shutil.copy2(encoded / "song.flac", tmp_path))
    before = song.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("emoseg.tags.take_place", lambda *a, **o: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(AudioError, match=r"song.flac: cannot be written: No space left"):
            tagged(song, undo)
    assert song.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [song, undo.path]
    assert [undo_tags(entry) for entry in entries(undo)] == ["as it was"]


# --- words and numbers -----------------------------------------------------------------------------------------------


def test_numbers_are_three_digits_that_sort_as_text() -> None:
    values = [-1.0, -0.98, -0.5, 0.0, 0.5, 1.0]
    reported = [own_fields(SongFacts("Q1", 1.0, v, None, "m"), QUADRANTS)["EMOSEG_VALENCE"] for v in values]
    assert reported == ["000", "001", "025", "050", "075", "100"] == sorted(reported)
    assert "EMOSEG_AROUSAL" not in own_fields(SongFacts("Q1", 1.0, 0.1, None, "m"), QUADRANTS)


def test_moods_are_words() -> None:
    assert [mood_word(label, QUADRANTS) for label in QUADRANTS.labels] == ["Happy", "Tense", "Sad", "Calm"]
    own = EmotionSpace.from_labels(["rainy", "sunny"])
    assert mood_word("rainy", own) == "rainy"
    assert mood_word("unsure", QUADRANTS) is None


# --- differences -----------------------------------------------------------------------------------------------------


def parted(folder: Path, new: bytes, old: bytes) -> Difference:
    """Return the difference between two files, after it was seen to restore the old one."""
    for name, data in (("new", new), ("old", old)):
        (folder / name).write_bytes(data)
    delta = difference(folder / "new", folder / "old")
    assert delta is not None
    assert delta.fits(new_size=len(new), old_size=len(old))
    restored = io.BytesIO()
    delta.apply(io.BytesIO(new), restored)
    assert restored.getvalue() == old
    return delta


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.binary(min_size=33, max_size=300), min_size=1, max_size=4),
    moves=st.lists(st.integers(0, 3), max_size=9),
    head=st.binary(max_size=99),
)
def test_differences_restore_anything(tmp_path: Path, pieces: list[bytes], moves: list[int], head: bytes) -> None:
    old = b"".join(pieces)
    parted(tmp_path, head + b"".join(pieces[move % len(pieces)] for move in moves), old)
    parted(tmp_path, old, head + old)


def test_sound_that_moved_is_not_in_the_difference(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).bytes(1_000_000)
    silence = bytes(200_000)
    for old, new in [
        (b"ID3" + sound + b"TAG", b"ID3 and more" * 400 + sound + b"TAG"),
        (b"RIFF0000" + sound, b"RIFF1111" + sound + b"id3 " * 90),
        (b"ID3" + sound + silence + sound[::-1], b"ID3 and more" * 400 + sound + silence + sound[::-1]),
        (b"ID3 and more" * 400 + silence + sound, silence + sound),
        (sound, sound),
    ]:
        delta = parted(tmp_path, new, old)
        assert len(delta.stretches) + len(packed(delta.rest)) < 400


def test_a_difference_beyond_what_an_undo_file_holds_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_bytes(b"")
    (tmp_path / "old").write_bytes(np.random.default_rng(0).bytes(200_000))
    monkeypatch.setattr("emoseg.tags.delta.MOST_REST_BYTES", 199_999)
    assert difference(tmp_path / "new", tmp_path / "old") is None
    monkeypatch.setattr("emoseg.tags.delta.MOST_REST_BYTES", 200_000)
    assert difference(tmp_path / "new", tmp_path / "old") is not None


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def music(encoded: Path, tmp_path: Path) -> Path:
    root = tmp_path / "music"
    root.mkdir()
    for suffix in (".mp3", ".flac", ".m4a"):
        shutil.copy2(encoded / f"song{suffix}", root)
    return root


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.iterdir())}


def test_tag_from_a_model(music: Path, model: Path, tmp_path: Path, call: Call) -> None:
    (music / "text.mp3").write_text("no sound " * 100)
    before = digests(music)
    dry = call("tag", music, "--model", model)
    assert dry.status == 1, "one file is no recording"
    assert digests(music) == before, "a dry run changes nothing"
    assert list(tmp_path.iterdir()) == [music]
    lines = dry.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(music / f"song{s}") for s in (".flac", ".m4a", ".mp3")]
    assert "MOOD=" in lines[0]
    assert "EMOSEG_VALENCE=" in lines[0]
    assert dry.err.splitlines()[-1] == "emoseg: 3 of 4 files would change (dry run; --write writes)"
    assert dry.err.startswith(f"emoseg: {music / 'text.mp3'}: cannot be decoded")

    (music / "text.mp3").unlink()
    undo = tmp_path / "undo.jsonl"
    done = call("tag", music, "--model", model, "--write", "--undo-file", undo, "--json")
    assert done.status == 0
    results = [json.loads(line) for line in done.out.splitlines()]
    assert all(result["changes"] and result["schema"] == "emoseg.tag/1" for result in results)
    assert done.err == f"emoseg: 3 of 3 files changed; undo with: emoseg tag --undo {undo}\n"
    for result in results:
        assert read_back(Path(result["path"]))["EMOSEG_LABEL"] == result["fields"]["EMOSEG_LABEL"]
    restored = call("tag", "--undo", undo)
    assert restored.status == 0
    assert sorted(restored.out.splitlines()) == [f"{music / f'song{s}'}: restored" for s in (".flac", ".m4a", ".mp3")]
    del before["text.mp3"]
    assert digests(music) == before


def test_tag_from_a_library_which_then_knows_the_files(music: Path, model: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "library"
    run_batch(music, out, model=model, workers=1, quiet=True)
    undo = tmp_path / "undo.jsonl"
    one = call("tag", music / "song.flac", "--library", out)
    assert one.out.count("\n") == 1
    assert call("tag", "--library", out, "--write", "--undo-file", undo).status == 0
    again = call("tag", music, "--library", out)
    assert again.out.count(": up to date\n") == 3
    report = run_batch(music, out, model=model, workers=1, quiet=True)
    assert (report.changes.changed, report.analysed) == (0, 0), "tags are no new sound"
    assert call("tag", "--undo", undo).status == 0
    report = run_batch(music, out, model=model, workers=1, quiet=True)
    assert (report.changes.changed, report.analysed) == (0, 0), "nor is their absence"


def test_tag_says_what_is_wrong(
    music: Path, model: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(call("tag"), "no recordings given: PATH, or --library DIR")
    refused(call("tag", music, "--library", tmp_path, "--model", model), "--library DIR or --model DIR")
    refused(call("tag", music, "--library", tmp_path), "is not a library")
    refused(call("tag", "--undo", tmp_path / "no.jsonl"), "no.jsonl: no such file")
    refused(call("tag", music, "--undo", tmp_path / "no.jsonl"), "--undo takes nothing else")
    (tmp_path / "taken").touch()
    refused(call("tag", music, "--model", model, "--write", "--undo-file", tmp_path / "taken"), "taken: exists already")
    out = tmp_path / "library"
    run_batch(music, out, model=model, workers=1, quiet=True)
    refused(call("tag", tmp_path / "taken", "--library", out), "taken: no song of the library")
    monkeypatch.setitem(__import__("sys").modules, "mutagen", None)
    refused(call("tag", music, "--model", model), "pip install mutagen")
    with pytest.raises(MissingExtraError):
        plan_tags(music / "song.mp3", FACTS, QUADRANTS)
