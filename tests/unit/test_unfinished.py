"""The folder of an unfinished run admits one process and one run at a time; if it is damaged, the run starts again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from emoseg.errors import ConfigError, EmosegError, EmosegWarning
from emoseg.system.unfinished import claim, unfinished, unfinished_folder

SETTINGS, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unfinished_folder(tmp_path / "model")


def done(folder: Path) -> Path:
    """Leave a folder in which a run with `SETTINGS` has done something; return that."""
    with unfinished(folder):
        claim(folder, SETTINGS, what="run")
        (folder / "member0").mkdir()
        (folder / "member0" / "0000.safetensors").write_text("learnt")
    return folder / "member0" / "0000.safetensors"


def test_the_folder_lies_beside_the_output(tmp_path: Path) -> None:
    assert unfinished_folder(tmp_path / "model") == tmp_path / ".model.unfinished"
    long = unfinished_folder(tmp_path / ("é" * 127))
    long.mkdir()
    assert long != unfinished_folder(tmp_path / ("é" * 126 + "e"))


def test_a_folder_in_which_nothing_was_kept_goes(folder: Path) -> None:
    with unfinished(folder):
        claim(folder, SETTINGS, what="run")
        assert (folder / "settings").read_text() == SETTINGS
        (folder / "descriptors" / "member0").mkdir(parents=True)
    assert not folder.exists()

    def fail() -> None:
        with unfinished(folder):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folder.exists()


def test_what_was_kept_stays_for_the_same_settings_alone(folder: Path) -> None:
    kept = done(folder)
    (folder / ".emoseg-00.tmp").write_text("half a file of a killed run")
    with unfinished(folder):
        claim(folder, SETTINGS, what="run")
        assert kept.read_text() == "learnt"
        assert not list(folder.glob(".emoseg-*"))
        with pytest.raises(ConfigError) as caught:
            claim(folder, OTHER, what="run")
    reported = "holds an unfinished run with other settings or songs; delete it or change --out"
    assert str(caught.value) == f"{folder}: {reported}"
    assert kept.read_text() == "learnt"


def test_a_folder_without_a_note_is_not_touched(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with unfinished(folder), pytest.raises(ConfigError, match="holds an unfinished run with other settings"):
        claim(folder, SETTINGS, what="run")
    assert (folder / "mine.txt").read_text() == "keep"


def _folder(marker: Path) -> None:
    (marker / "inside").mkdir(parents=True)


@pytest.mark.parametrize(
    "damage",
    [
        _folder,
        os.mkfifo,
        lambda marker: marker.write_bytes(b""),
        lambda marker: marker.write_bytes(b"\xff\xfe0123456789abc"),
        lambda marker: marker.write_bytes(b"0123456789abcdeg"),
        lambda marker: marker.write_bytes(b"0123456789abcdef" * 1000),
        lambda marker: marker.symlink_to("nowhere"),
    ],
    ids=["folder", "pipe", "empty", "not text", "other text", "too long", "link to nowhere"],
)
def test_a_damaged_note_is_reported_and_the_run_begins_anew(folder: Path, damage: Callable[[Path], object]) -> None:
    kept = done(folder)
    marker = folder / "settings"
    marker.unlink()
    damage(marker)
    with unfinished(folder):
        with pytest.warns(EmosegWarning) as reported:
            claim(folder, SETTINGS, what="run")
        assert [str(w.message) for w in reported] == [f"{marker}: is damaged; the unfinished run starts again"]
        assert marker.read_text() == SETTINGS
        assert not kept.exists()
        claim(folder, SETTINGS, what="run")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".model.unfinished").write_text("a file")
    with (
        pytest.raises(EmosegError, match=r"\.model\.unfinished: cannot be created: File exists"),
        unfinished(unfinished_folder(tmp_path / "model")),
    ):
        pass


def test_results_of_another_version_are_removed_with_one_clear_line(folder: Path) -> None:
    with unfinished(folder):
        claim(folder, SETTINGS, what="run", versions={"emoseg": "1.0", "frontend a": 3, "frontend b": 1})
        kept = folder / "kept"
        kept.write_text("learnt")
        claim(folder, SETTINGS, what="run", versions={"emoseg": "1.0", "frontend a": 3, "frontend b": 1})
        assert kept.exists()
        with pytest.warns(EmosegWarning) as reported:
            claim(folder, SETTINGS, what="run", versions={"emoseg": "1.1", "frontend a": 4, "method c": 1})
        changes = "emoseg 1.0, now 1.1, frontend a 3, now 4, frontend b 1, now unknown, method c unknown, now 1"
        line = f"{folder}: the unfinished run was started with another version ({changes}); it starts again"
        assert [str(w.message) for w in reported] == [line]
        assert not kept.exists()
        kept.write_text("learnt again")
        claim(folder, SETTINGS, what="run", versions={"emoseg": "1.1", "frontend a": 4, "method c": 1})
        assert kept.exists()


def test_other_settings_are_refused_even_with_another_version(folder: Path) -> None:
    with unfinished(folder):
        claim(folder, SETTINGS, what="run", versions={"emoseg": "1.0"})
        (folder / "kept").write_text("learnt")
        with pytest.raises(ConfigError, match="with other settings or songs"):
            claim(folder, OTHER, what="run", versions={"emoseg": "1.1"})
        assert (folder / "kept").exists()


def test_parts_of_a_run_have_notes_of_their_own(folder: Path) -> None:
    """A note in a folder inside is no result: without results the folder goes at the end."""
    with unfinished(folder):
        claim(folder, SETTINGS, what="run")
        claim(folder / "part", OTHER, what="part", versions={"method c": 1})
        assert (folder / "part" / "settings").read_text() == f"{OTHER}\nmethod c: 1"
    assert not folder.exists()
