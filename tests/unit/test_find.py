"""The walker of all commands finds every recording once, follows links, and reports folders that it cannot list."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emoseg.audio.find import find_recordings, find_sources, scan_folder
from emoseg.errors import AudioError, ConfigError
from emoseg.types import AnalysisFailure


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def close(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """Refuse to list a folder of this name; permissions would not stop a superuser."""
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_of_all_kinds(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp3", "b/2.mp3")
    make(tmp_path.parent / f"{tmp_path.name}-other", "3.mp3")
    (tmp_path / "itself.mp3").symlink_to("itself.mp3")
    (tmp_path / "nothing.mp3").symlink_to("nowhere.mp3")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "other").symlink_to(tmp_path.parent / f"{tmp_path.name}-other")
    (tmp_path / "second way").symlink_to("a")
    scan = scan_folder(tmp_path)
    assert [file.path for file in scan.files] == ["a/1.mp3", "b/2.mp3", "itself.mp3", "nothing.mp3", "other/3.mp3"]
    assert scan.unlisted == {}


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "open/1.mp3", "closed/2.mp3")
    close(monkeypatch, "closed")
    scan = scan_folder(tmp_path)
    assert [file.path for file in scan.files] == ["open/1.mp3"]
    assert scan.unlisted == {"closed": "Permission denied"}
    with pytest.raises(AudioError, match="closed: cannot be listed: Permission denied"):
        find_recordings(tmp_path)


def test_a_folder_stands_for_its_recordings(tmp_path: Path) -> None:
    make(tmp_path, "a/2.mp3", "a/b/1.mp3", "empty/cover.jpg")
    given = [tmp_path / "nowhere.mp3", tmp_path / "a", tmp_path / "empty"]
    *paths, empty = find_sources(given)
    assert paths == [str(tmp_path / name) for name in ("nowhere.mp3", "a/2.mp3", "a/b/1.mp3")]
    assert empty == AnalysisFailure(str(given[2]), "empty", f"{given[2]}: holds no recordings")


def test_what_cannot_be_listed_in_a_folder_is_a_failure_beside_its_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "open/1.mp3", "closed/2.mp3")
    close(monkeypatch, "closed")
    path, failure = find_sources([tmp_path])
    assert path == str(tmp_path / "open" / "1.mp3")
    closed = tmp_path / "closed"
    assert failure == AnalysisFailure(str(closed), "unreadable", f"{closed}: cannot be listed: Permission denied")


def test_what_is_no_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3")
    for path in (tmp_path / "a.mp3", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="no such folder"):
            scan_folder(path)
    with pytest.raises(ConfigError, match="File name too long"):
        scan_folder(tmp_path / ("x" * 5000))


@pytest.mark.skipif(os.name != "posix", reason="times of POSIX")
def test_times_fit_in_64_bits(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3")
    os.utime(tmp_path / "a.mp3", (13_569_465_600, 13_569_465_600))
    assert -(2**63) <= scan_folder(tmp_path).files[0].mtime_ns < 0
