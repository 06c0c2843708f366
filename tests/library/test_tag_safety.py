"""Tags: sound never changes and nothing is lost, whatever the file is, whoever edits it meanwhile, and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
from made import RATE, tone

from emoseg.emotion import QUADRANTS
from emoseg.errors import AudioError
from emoseg.library import run_batch
from emoseg.system.files import checksum
from emoseg.tags import (
    SongFacts,
    TagPlan,
    TagProcess,
    UndoFile,
    containers,
    plan_tags,
    process,
    replacing,
    run,
    undo_tags,
    write_tags,
)
from emoseg.tags.process import RefusedError
from emoseg.tags.run import tag_files, undo_files
from emoseg.tags.undo import UndoEntry, read_undo

mutagen = pytest.importorskip("mutagen", reason="needs the extra tags")
resource: Any = pytest.importorskip("resource", reason="needs links, pipes, limits and signals")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a system call or a limit of Linux")
FACTS = SongFacts("Q4", 0.874, 0.5, -0.98, "tiny 1")
ffmpeg = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(ffmpeg is None, reason="the files of this test are made by ffmpeg")
PROCESS = TagProcess()


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    with PROCESS:
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "music"
    made.mkdir()
    return made


@pytest.fixture
def song(folder: Path) -> Path:
    path = folder / "song.flac"
    soundfile.write(path, tone(1, seconds=2), RATE)
    return path


@pytest.fixture
def undo(tmp_path: Path) -> UndoFile:
    return UndoFile(tmp_path / "undo.jsonl")


@pytest.fixture
def same_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the time of decoding in tests of something else."""
    monkeypatch.setattr("emoseg.tags.sound_digests", lambda path: {"soundfile": "the same"})


def tag(path: Path, undo: UndoFile, facts: SongFacts = FACTS) -> None:
    write_tags(plan_tags(path, facts, QUADRANTS, process=PROCESS), undo, process=PROCESS)


def refusal(path: Path, undo: UndoFile) -> str:
    """Return the line with which a file is left alone, after all was seen to be as before."""
    before = contents(path.parent)
    with pytest.raises(AudioError) as refused:
        tag(path, undo)
    assert contents(path.parent) == before
    assert not undo.path.exists()
    words = str(refused.value)
    assert refused.value.kind == "tags"
    assert words.startswith(f"{path}: ")
    assert "\n" not in words.removeprefix(str(path))
    return words.removeprefix(f"{path}: ")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.name: path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else None
        for path in sorted(folder.iterdir())
    }


def restored(undo: UndoFile) -> list[str]:
    """Undo everything; return what became of each file, the latest change first."""
    return [line.rpartition(": ")[2] for line, _ in undo_files(undo.path)]


# --- the sound stays -------------------------------------------------------------------------------------------------


def encoded(source: Path, *options: str | Path, **where: Any) -> Any:
    command = [str(ffmpeg), "-v", "error", "-i", source, *options]
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **where)


@pytest.mark.parametrize("suffix", [".wav", ".aiff"])
def test_a_recording_that_was_cut_off_is_left_alone(folder: Path, undo: UndoFile, suffix: str) -> None:
    # Its header states more sound, so a tag behind it would be decoded as sound.
    path = folder / f"cut{suffix}"
    soundfile.write(path, tone(1, seconds=3), RATE)
    path.write_bytes(path.read_bytes()[:90_001])
    assert refusal(path, undo).startswith("would sound different (soundfile")


@needs_ffmpeg
def test_an_m4a_in_fragments_is_left_alone(song: Path, undo: UndoFile) -> None:
    pytest.importorskip("av", reason="needs the extra av")
    path = song.with_name("fragments.m4a")
    encoded(song, "-movflags", "frag_keyframe+empty_moov", "-frag_duration", "500000", path)
    assert refusal(path, undo) == "would sound different (pyav, ffmpeg); left alone"


@needs_ffmpeg
def test_a_wav_of_unknown_length_is_left_alone(song: Path, undo: UndoFile) -> None:
    path = song.with_name("piped.wav")
    with path.open("wb") as out:
        encoded(song, "-f", "wav", "-", stdout=out)
    assert refusal(path, undo).startswith("its tags cannot be written: mutagen fails on it (error: ")


def test_what_no_decoder_reads_is_left_alone(song: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoseg.tags.sound_digests", lambda path: {})
    monkeypatch.setattr("emoseg.tags.available_decoders", lambda: ("soundfile", "pyav"))
    words = "no decoder reads it, so its sound cannot be compared; left alone"
    assert refusal(song, undo) == words
    monkeypatch.setattr("emoseg.tags.available_decoders", lambda: ("soundfile", "ffmpeg"))
    assert refusal(song, undo) == f"{words}; PyAV reads more formats: pip install av"


def test_every_decoder_that_read_the_file_must_decode_the_same_sound(
    song: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests: dict[bool, dict[str, str]] = {}
    monkeypatch.setattr("emoseg.tags.sound_digests", lambda path: digests[path == song])
    digests |= {True: {"soundfile": "1", "pyav": "2"}, False: {"soundfile": "1"}}
    assert refusal(song, undo) == "would sound different (pyav); left alone"
    digests |= {True: {"soundfile": "1"}, False: {"soundfile": "1", "pyav": "2"}}
    before = song.read_bytes()
    tag(song, undo)
    assert song.read_bytes() != before
    # The file without tags is the one that every decoder must decode alike: now it is the copy.
    assert restored(undo) == ["would sound different (pyav); left alone"]
    digests |= {True: {"soundfile": "1", "pyav": "2"}, False: {"soundfile": "1"}}
    assert restored(undo) == ["restored"]
    assert song.read_bytes() == before


# --- damaged and odd files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), IndexError("x"), OverflowError("x"), RecursionError("x"), UnicodeDecodeError("a", b"", 0, 1, "x"),
     AssertionError(), ZeroDivisionError("x\ny")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_mutagen_raises_is_one_line(song: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(path: Path) -> None:
        raise error

    request = {"path": os.fsencode(song).hex(), "changes": None}
    monkeypatch.setattr(mutagen, "File", fail)
    words = containers._answer(request)["refused"]
    assert type(error).__name__ in words or "codec can't decode" in words
    assert "\n" not in words
    assert words.isprintable()


def test_memory_that_runs_out_is_one_line(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutagen, "File", lambda path: (_ for _ in ()).throw(MemoryError()))
    request = {"path": os.fsencode(song).hex(), "changes": None}
    assert containers._answer(request) == {"refused": "that takes more than 512 MB of memory"}


@on_linux
def test_tags_that_unpack_to_a_gigabyte_are_refused(folder: Path, undo: UndoFile) -> None:
    import zlib

    packer = zlib.compressobj(9)
    data = bytes([0, 0, 0, 0]) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    size = [bytes((n >> shift) & 0x7F for shift in (21, 14, 7, 0)) for n in (len(data), len(data) + 10)]
    path = folder / "bomb.mp3"
    soundfile.write(path, tone(1, seconds=2), RATE)
    path.write_bytes(b"ID3\4\0\0" + size[1] + b"TXXX" + size[0] + b"\0\x09" + data + path.read_bytes())
    assert refusal(path, undo) == "its tags cannot be read: that takes more than 512 MB of memory"


def test_a_mood_of_megabytes_is_refused(song: Path, undo: UndoFile) -> None:
    file = mutagen.File(song)
    file["MOOD"] = "x" * 8193
    file.save()
    assert refusal(song, undo) == "its tags cannot be read: more than 8192 characters"
    file["MOOD"] = "x" * 8192
    file.save()
    assert plan_tags(song, FACTS, QUADRANTS, process=PROCESS).user_mood == "x" * 8192


def test_a_process_that_hangs_or_dies_costs_one_file(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TagProcess() as tags:
        found = tags.read(song)
        for deadly in (signal.SIGSTOP, signal.SIGKILL):
            assert tags._process is not None
            os.kill(tags._process.pid, deadly)
            with monkeypatch.context() as patched:
                patched.setattr(process, "PATIENCE_S", 0.2)
                with pytest.raises(RefusedError, match="the tag library crashed, or took more than 0 s"):
                    tags.read(song)
            assert tags.read(song) == found


def test_special_files_are_one_line(folder: Path, undo: UndoFile) -> None:
    os.mkfifo(folder / "pipe.mp3")
    (folder / "folder.mp3").mkdir()
    (folder / "null.mp3").symlink_to("/dev/null")
    (folder / "loop.mp3").symlink_to("loop.mp3")
    (folder / "nowhere.mp3").symlink_to("no such file.mp3")
    (folder / "text.txt").write_text("no sound")
    (folder / "linked.mp3").symlink_to("text.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.mp3"))
    reported = {path.name: refusal(path, undo) for path in (*sorted(folder.iterdir()), folder / "none.mp3")}
    assert reported == {
        "pipe.mp3": "is not a regular file",
        "folder.mp3": "is a folder, not a file",
        "null.mp3": "is not a regular file",
        "loop.mp3": "cannot be read: Too many levels of symbolic links",
        "nowhere.mp3": "no such file",
        "text.txt": "is not named like a recording, such as .mp3; left alone",
        "linked.mp3": "is not named like a recording, such as .mp3; left alone",
        "socket.mp3": "is not a regular file",
        "none.mp3": "no such file",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("x" * 250 + ".flac", "new\nline.FLAC", "-.flac", "a:b.flac"),
        pytest.param(os.fsdecode(b"not utf-8 \xff.flac"), marks=on_linux),
    ],
)
@pytest.mark.usefixtures("same_sound")
def test_odd_names_work(song: Path, undo: UndoFile, name: str) -> None:
    path = song.rename(song.with_name(name))
    before = path.read_bytes()
    tag(path, undo)
    assert plan_tags(path, FACTS, QUADRANTS, process=PROCESS).line() == "up to date"
    assert restored(undo) == ["restored"]
    assert contents(path.parent) == {name: before}


def test_a_file_with_several_names_is_left_alone(song: Path, undo: UndoFile) -> None:
    song.with_name("other.flac").hardlink_to(song)
    assert refusal(song, undo) == "has 2 names (hard links), of which one alone would change; left alone"


def test_a_folder_that_cannot_be_written_to_is_one_line(
    song: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert refusal(song, undo) == "cannot be written: Permission denied"


@on_linux
def test_owner_permissions_and_attributes_stay(song: Path, undo: UndoFile) -> None:
    song.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(song, 1234, 2345)
    try:
        os.setxattr(song, "user.rating", b"5")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    kept = [(song.stat().st_mode, song.stat().st_uid, song.stat().st_gid, os.getxattr(song, "user.rating"))]
    tag(song, undo)
    kept.append((song.stat().st_mode, song.stat().st_uid, song.stat().st_gid, os.getxattr(song, "user.rating")))
    assert restored(undo) == ["restored"]
    kept.append((song.stat().st_mode, song.stat().st_uid, song.stat().st_gid, os.getxattr(song, "user.rating")))
    assert kept[0] == kept[1] == kept[2]


def test_a_folder_that_cannot_be_listed_is_reported(song: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = song.parent / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    lines = [result.line() for result in tag_files(run.Source([song.parent], model=model))]
    assert lines[0] == f"{closed}: cannot be listed: Permission denied"
    assert lines[1].startswith(f"{song}: ")
    assert len(lines) == 2


# --- the undo file ---------------------------------------------------------------------------------------------------


def entry_of(path: Path, undo: UndoFile) -> UndoEntry:
    tag(path, undo)
    (entry,) = read_undo(undo.path)
    assert isinstance(entry, UndoEntry)
    return entry


def lines_of(undo: UndoFile) -> list[bytes]:
    return undo.path.read_bytes().splitlines(keepends=True)


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back(song: Path, undo: UndoFile, tmp_path: Path) -> None:
    entry = entry_of(song, undo)
    full = UndoFile(tmp_path / "full.jsonl")
    words = "full.jsonl: cannot be written: File too large"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = undo.path.stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(Exception, match=words):
            full.add(entry)
        assert not full.path.exists(), "an undo file without a line stays nowhere"
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
        full.add(entry)
        with pytest.raises(Exception, match=words):
            full.add(entry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.path.read_bytes() == undo.path.read_bytes()
    full.add(entry)
    assert lines_of(full) == 2 * lines_of(undo)


def test_a_full_disk_leaves_the_song_alone(song: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(UndoFile, "_append", refuse)
        assert refusal(song, undo) == f"left alone: {undo.path}: cannot be written: No space left on device"
    tag(song, undo)
    assert restored(undo) == ["restored"]


@pytest.mark.usefixtures("same_sound")
def test_a_line_follows_a_line_end_only(song: Path, undo: UndoFile) -> None:
    entry = entry_of(song, undo)
    line = undo.path.read_bytes()
    undo.path.write_bytes(line + b"torn")
    undo.add(entry)
    assert undo.path.read_bytes() == 2 * line
    undo.path.write_bytes(line)
    with pytest.raises(Exception, match=r"undo.jsonl: cannot be written: another program cut it short"):
        undo.add(entry)
    assert undo.path.read_bytes() == line


@pytest.fixture
def three(song: Path, undo: UndoFile, same_sound: None) -> list[Path]:
    """Three tagged songs with a line each."""
    songs = [song, song.with_name("b.flac"), song.with_name("c.flac")]
    for number, path in enumerate(songs):
        soundfile.write(path, tone(number, seconds=1.5), RATE)
        tag(path, undo)
    return songs


@pytest.mark.parametrize("kept", [0, 1, 40, 300, -1])
@pytest.mark.usefixtures("same_sound")
def test_a_torn_last_line_is_reported_and_costs_nothing(three: list[Path], undo: UndoFile, kept: int) -> None:
    first, second, third = lines_of(undo)
    torn = third[: kept if kept >= 0 else len(third) - 2]
    undo.path.write_bytes(first + second + torn)
    outcomes = list(undo_files(undo.path))
    reported = [(f"{undo.path}: line 3 is cut off, so its file was not changed; skipped", True)] if torn else []
    assert outcomes == [*reported, *((f"{path}: restored", True) for path in (three[1], three[0]))]


@pytest.mark.usefixtures("same_sound")
def test_a_line_without_its_line_end_is_whole(three: list[Path], undo: UndoFile) -> None:
    undo.path.write_bytes(undo.path.read_bytes()[:-1])
    assert restored(undo) == ["restored"] * 3


@pytest.mark.usefixtures("same_sound")
def test_a_damaged_line_is_a_failure_and_the_others_are_restored(three: list[Path], undo: UndoFile) -> None:
    lines = lines_of(undo)
    for at in range(0, len(lines[1]) - 1, 97):
        broken = bytearray(lines[1])
        broken[at] ^= 1
        undo.path.write_bytes(lines[0] + bytes(broken) + lines[2])
        reported = list(undo_files(undo.path))
        assert reported[0] == (f"{undo.path}: line 2 was altered or damaged; skipped", False)
        assert [well for _, well in reported[1:]] == [True, True]
    undo.path.write_bytes(b"\n\nwhat\n" + lines[1])
    assert next(undo_files(undo.path)) == (f"{undo.path}: lines 1 to 3 were altered or damaged; skipped", False)
    assert restored(undo)[-1] == "restored"


def test_what_is_no_undo_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "undo.jsonl"

    def words() -> str:
        with pytest.raises(Exception, match=rf"^{file}: ") as refused:
            list(undo_files(file))
        return str(refused.value).removeprefix(f"{file}: ")

    assert words() == "no such file"
    for data in (b"text\n", b"\xff\xfe", b"\n" * 100, b'{"schema": "emoseg.tag-undo/1", "path": "x"}\n', bytes(1000)):
        file.write_bytes(data)
        assert words() == "is not an undo file of emoseg (emoseg.tag-undo/2)"
    file.write_bytes(b"\n" * 4_000_001)
    assert words() == "has more than 4000000 lines"
    file.unlink()
    os.mkfifo(file)
    assert words() == "is not a regular file"
    file.unlink()
    file.mkdir()
    assert words() == "is a folder, not a file"
    file.rmdir()
    file.touch()
    assert list(undo_files(file)) == [(f"{file}: holds nothing to restore", True)]


# --- undo files from strangers ---------------------------------------------------------------------------------------


def forged(line: bytes, **changes: Any) -> bytes:
    """Return a line with other values and the right checksum."""

    reported = json.loads(line)
    del reported["checksum"]
    for name, value in changes.items():
        *holders, field = name.split("__")
        holder = reported
        for part in holders:
            holder = holder[part]
        holder[field] = value
    start = json.dumps(reported).encode()[:-1]
    return start + f', "checksum": "{checksum(start)}"}}\n'.encode()


def packed_bomb() -> str:
    import base64
    import zlib

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    return base64.b64encode(data).decode()


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"path": "song.flac"}, "path: is not an absolute path"),
    ({"path": 7}, "path: is not a path"),
    ({"path": "/a\0b.mp3"}, "path: is not a path"),
    ({"path": "/" + "x" * 40_000}, "path: is not a path"),
    ({"path": "/\ud800.mp3"}, "path: is not a path"),
    ({"library": 0}, "library: is not a path"),
    ({"command": "rm"}, "command: Extra inputs are not permitted"),
    ({"before": None}, "before: Input should be a valid dictionary"),
    ({"before__mood": "x"}, "before.mood: Input should be a valid list"),
    ({"before__fields": {"a": "x" * 70_000}}, "before.fields.a: String should have at most 65536 characters"),
    ({"old__size": -1}, "old.size: Input should be greater than or equal to 0"),
    ({"old__size": 2**60}, "old.size: Input should be less than or equal to"),
    ({"old__size": 1.5}, "old.size: Input should be a valid integer"),
    ({"old__size": True}, "old.size: Input should be a valid integer"),
    ({"old__size": 10**4000}, "old.size: Input should be less than or equal to"),
    ({"old__mtime_ns": 2**93}, "old.mtime_ns: Input should be less than or equal to"),
    ({"old__mtime_ns": float("nan")}, "old.mtime_ns: Input should be a valid integer"),
    ({"new__checksum": "A" * 32}, "new.checksum: String should match pattern"),
    ({"new__mtime_ns": 1}, "new.mtime_ns: Extra inputs are not permitted"),
    ({"stretches": []}, "stretches: Input should be a valid string"),
    ({"rest": "###"}, "Only base64 data is allowed"),
    ({"rest": "eJwA"}, "its difference is too long or cut off"),
    ({"rest": "AAAA"}, "its difference cannot be decompressed"),
    ({"rest": packed_bomb()}, "its difference is too long or cut off"),
    ({"stretches": packed_bomb()}, "its difference is too long or cut off"),
    ({"new__size": 10}, "its difference does not fit the sizes of the files"),
    ({"old__size": 10}, "its difference"),
    ({"before": [[]] * 140_000}, "has too many values"),
]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("honest")
    soundfile.write(folder / "song.flac", tone(1, seconds=2), RATE)
    undo = UndoFile(folder / "undo.jsonl")
    tag(folder / "song.flac", undo)
    return undo.path.read_bytes()


@pytest.mark.parametrize(("changes", "words"), HOSTILE, ids=lambda value: next(iter(value), "")[:20])
def test_a_forged_line_is_reported_and_skipped(
    honest: bytes, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    file = tmp_path / "undo.jsonl"
    file.write_bytes(forged(honest, **changes))
    ((reported, well),) = undo_files(file)
    assert not well
    assert reported.startswith(f"{file}: line 1: {words}")
    assert reported.endswith("; skipped")


@on_linux
def test_lines_that_would_fill_the_memory_do_not(honest: bytes, tmp_path: Path) -> None:

    file = tmp_path / "undo.jsonl"
    with file.open("wb") as out:
        for middle in (b"[" * 5_000_000, b"[]," * 5_000_000, b'"' + b"x" * 20_000_000 + b'"', b"9" * 20_000_000):
            start = b'{"schema": "emoseg.tag-undo/2", "path": ' + middle
            out.write(start + f', "checksum": "{checksum(start)}"}}\n'.encode())
        out.write(honest)
        out.truncate(out.tell() + (1 << 30))  # a line of a gigabyte
    code = (
        "import resource, sys; from pathlib import Path; from emoseg.tags.undo import read_undo\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (250 << 20, 250 << 20))\n"
        "for found in read_undo(Path(sys.argv[1])): print(getattr(found, 'words', 'an entry'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    reported = [line.removeprefix(f"{file}: line ") for line in done.stdout.splitlines()]
    assert reported[:2] == ["6 is cut off, so its file was not changed; skipped", "an entry"]
    assert reported[2].startswith("4: Exceeds the limit (4300 digits)")
    assert reported[3] == "3: path: is not a path; skipped"
    assert reported[4:] == ["2: has too many values; skipped", "1: has too many values; skipped"]


def aimed(honest: bytes, target: Path, new: bytes) -> bytes:
    """Return a line that would write `new` over a file, all checksums right."""
    from emoseg.tags.undo import packed

    found = {"checksum": checksum(target.read_bytes()), "size": target.stat().st_size}
    old = {"checksum": checksum(new), "size": len(new), "mtime_ns": 0}
    return forged(honest, path=str(target), old=old, new=found, stretches=packed(b""), rest=packed(new))


def test_an_undo_file_cannot_write_other_files(honest: bytes, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "undo.jsonl"
    reported = {}
    for name in ("secret", "secret.mp3", "song.wav"):
        target = folder / name
        if name == "song.wav":
            soundfile.write(target, tone(1, seconds=2), RATE)
        else:
            target.write_text("secret")
        other = bytearray(target.read_bytes())
        other[-1] ^= 1
        file.write_bytes(aimed(honest, target, bytes(other)))
        before = contents(folder)
        ((words, well),) = undo_files(file)
        assert not well
        assert contents(folder) == before
        reported[name] = words.removeprefix(f"{target}: ").partition(" (")[0].partition("; PyAV")[0]
    assert reported == {
        "secret": "is not named like a recording, such as .mp3; left alone",
        "secret.mp3": "no decoder reads it, so its sound cannot be compared; left alone",
        "song.wav": "would sound different",
    }
    os.mkfifo(folder / "pipe.mp3")
    file.write_bytes(forged(honest, path=str(folder / "pipe.mp3")))
    assert list(undo_files(file)) == [(f"{folder / 'pipe.mp3'}: is not a regular file", False)]


def test_a_folder_that_is_no_library_is_not_touched(song: Path, undo: UndoFile, tmp_path: Path) -> None:
    tag(song, undo)
    other = tmp_path / "no library"
    other.mkdir()
    undo.path.write_bytes(forged(undo.path.read_bytes(), library=str(other)))
    assert restored(undo) == ["restored"]
    assert list(other.iterdir()) == []


def test_a_file_that_was_edited_after_tagging_is_analysed_again(
    song: Path, undo: UndoFile, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_and_edited(plan: TagPlan, undo: UndoFile, **options: Any) -> str:
        content = write_tags(plan, undo, **options)
        append(plan.path)
        return content

    library = tmp_path / "library"
    run_batch(song.parent, library, model=model, workers=1, quiet=True)
    monkeypatch.setattr(run, "write_tags", written_and_edited)
    (tagged,) = run.tag_files(run.Source([], library=library), undo=undo)
    assert tagged.error is None
    assert run_batch(song.parent, library, model=model, workers=1, quiet=True).changes.changed == 1


# --- another program edits the file meanwhile ------------------------------------------------------------------------


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"edit")


def replace(path: Path) -> None:
    path.with_name("new").write_bytes(path.read_bytes()[:-1] + b"!")
    path.with_name("new").replace(path)


def flip_in_place(path: Path) -> None:
    """Change one byte, and give the file its old modification time."""
    status = path.stat()
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def before_call(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> None:
    """Have something happen once, just before a function is called."""
    module, _, function = name.rpartition(".")
    holder = {"tags": sys.modules["emoseg.tags"], "replacing": replacing, "original": replacing.Original}[module]
    real = getattr(holder, function)
    todo = [act]

    def patched(*args: Any, **options: Any) -> Any:
        while todo:
            todo.pop()()
        return real(*args, **options)

    monkeypatch.setattr(holder, function, patched)


POINTS = [
    "tags.file_checksum",
    "tags.sound_digests",
    "original.is_at",
    pytest.param("replacing.exchange", marks=on_linux),
]


@pytest.mark.parametrize("edit", [append, replace, flip_in_place])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.usefixtures("same_sound")
def test_an_edit_while_tags_are_written_stays(
    song: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch, point: str, edit: Callable[[Path], None]
) -> None:
    before_call(monkeypatch, point, lambda: edit(song))
    before = song.read_bytes()
    with pytest.raises(AudioError, match=r"song.flac: changed while its tags were written; left alone"):
        tag(song, undo)
    assert song.read_bytes() == (before + b"edit" if edit is append else before[:-1] + b"!")
    assert list(song.parent.iterdir()) == [song]


@pytest.mark.parametrize("edit", [append, replace, flip_in_place])
@pytest.mark.parametrize("point", POINTS[1:])
@pytest.mark.usefixtures("same_sound")
def test_an_edit_while_a_file_is_restored_stays(
    song: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch, point: str, edit: Callable[[Path], None]
) -> None:
    entry = entry_of(song, undo)
    before = song.read_bytes()
    before_call(monkeypatch, point, lambda: edit(song))
    with pytest.raises(AudioError, match=r"song.flac: changed while its tags were written; left alone"):
        undo_tags(entry)
    assert song.read_bytes() == (before + b"edit" if edit is append else before[:-1] + b"!")
    assert list(song.parent.iterdir()) == [song]


@pytest.mark.parametrize("edit", [append, replace, flip_in_place])
@pytest.mark.usefixtures("same_sound")
def test_an_edit_is_seen_where_files_cannot_be_exchanged(
    song: Path, undo: UndoFile, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    before = song.read_bytes()
    with monkeypatch.context() as patched:
        before_call(patched, "original.is_at", lambda: edit(song))
        with pytest.raises(AudioError, match="changed while its tags were written"):
            tag(song, undo)
    song.write_bytes(before)
    tag(song, undo)
    assert plan_tags(song, FACTS, QUADRANTS, process=PROCESS).line() == "up to date"
    assert restored(undo)[0] == "restored"
    assert song.read_bytes() == before


def test_a_mood_set_after_planning_stays(song: Path, undo: UndoFile) -> None:
    plan = plan_tags(song, FACTS, QUADRANTS, process=PROCESS)
    file = mutagen.File(song)
    file["MOOD"] = "Party"
    file.save()
    with pytest.raises(AudioError, match="changed while its tags were written; left alone"):
        write_tags(plan, undo, process=PROCESS)
    assert mutagen.File(song)["MOOD"] == ["Party"]
    # A title says nothing about the plan, and is in the copy.
    plan = plan_tags(song, FACTS, QUADRANTS, process=PROCESS)
    file["TITLE"] = "Jóga"
    file.save()
    write_tags(plan, undo, process=PROCESS)
    assert (mutagen.File(song)["TITLE"], mutagen.File(song)["EMOSEG_MOOD"]) == (["Jóga"], ["Calm"])


@on_linux
def test_exchange(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert replacing.exchange(tmp_path / "a", tmp_path / "b")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("b", "a")
    with pytest.raises(FileNotFoundError):
        replacing.exchange(tmp_path / "a", tmp_path / "c")


# --- kills -----------------------------------------------------------------------------------------------------------

CHILD = """
import os, signal, sys
from pathlib import Path
import emoseg.tags as tags
from emoseg.tags import SongFacts, UndoFile, plan_tags, process, replacing, undo, undo_tags, write_tags
from emoseg.emotion import QUADRANTS

what, when, name, song, file = sys.argv[1:]
tags.sound_digests = lambda path: {"soundfile": "the same"}
holders = {"tags": tags, "replacing": replacing, "UndoFile": UndoFile, "shutil": tags.shutil, "os": os}
holder, _, function = name.rpartition(".")
real = getattr(holders[holder], function)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def patched(*args, **options):
    if when == "before":
        kill()
    if when == "half":
        undo, file, line = args
        real(undo, file, line[: len(line) // 2])
        kill()
    real(*args, **options)
    kill()

if what == "write":
    plan = plan_tags(Path(song), SongFacts("Q4", 0.874, 0.5, -0.98, "tiny 1"), QUADRANTS)
    setattr(holders[holder], function, patched)
    write_tags(plan, UndoFile(Path(file)))
else:
    (entry,) = undo.read_undo(Path(file))
    setattr(holders[holder], function, patched)
    undo_tags(entry)
"""
WHEN = ["before", "after"]
WRITING = ["shutil.copy2", "tags.difference", "tags._require_same_sound", "UndoFile._append", "replacing.exchange"]
NOTED = {
    ("before", "UndoFile._append"): ["holds nothing to restore"],
    ("half", "UndoFile._append"): ["line 1 is cut off, so its file was not changed; skipped"],
    ("after", "UndoFile._append"): ["as it was"],
    ("before", "replacing.exchange"): ["as it was"],
    ("after", "replacing.exchange"): ["restored"],
}
UNDOING = ["tags._apply", "tags._require_same_sound", "shutil.copystat", "replacing.exchange"]


def killed(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def source_of(song: Path) -> Any:
    """Return what stands for a `Source` with one song."""
    return SimpleNamespace(library=None, space=QUADRANTS, paths=[song], failures=[], facts=lambda path: FACTS)


@pytest.mark.parametrize(
    ("when", "name"), [*((when, name) for when in WHEN for name in WRITING), ("half", "UndoFile._append")]
)
@pytest.mark.usefixtures("same_sound")
def test_a_kill_while_writing_loses_nothing(song: Path, undo: UndoFile, when: str, name: str) -> None:
    before = song.read_bytes()
    killed("write", when, name, song, undo.path)
    left = [path for path in song.parent.iterdir() if path != song]
    assert [path.name[:8] for path in left] == [".emoseg-"]
    exchanged = (when, name) == ("after", "replacing.exchange")
    assert (song.read_bytes() == before) is not exchanged
    second = UndoFile(undo.path.with_name("second.jsonl"))
    (result,) = tag_files(source_of(song), undo=second)
    assert result.plan is not None
    assert result.plan.changes is not exchanged
    assert list(song.parent.iterdir()) == [song]
    if not exchanged:
        assert restored(second) == ["restored"]
    assert (restored(undo) if undo.path.exists() else None) == NOTED.get((when, name))
    assert song.read_bytes() == before


@pytest.mark.parametrize(("when", "name"), [(when, name) for when in WHEN for name in UNDOING])
@pytest.mark.usefixtures("same_sound")
def test_a_kill_while_undoing_loses_nothing(song: Path, undo: UndoFile, when: str, name: str) -> None:
    before = song.read_bytes()
    tag(song, undo)
    after = song.read_bytes()
    killed("undo", when, name, song, undo.path)
    exchanged = (when, name) == ("after", "replacing.exchange")
    assert song.read_bytes() == (before if exchanged else after)
    assert len(list(song.parent.iterdir())) == 2
    assert restored(undo) == ["as it was" if exchanged else "restored"]
    assert contents(song.parent) == {song.name: before}
