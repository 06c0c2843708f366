"""What commands print holds nothing that controls a terminal, and JSON that every reader takes."""

from __future__ import annotations

import json
import warnings

import pytest

from emoseg.errors import EmosegError, EmosegWarning
from emoseg.system.console import json_text, show_own_warnings, tell
from emoseg.system.names import one_line, printable, valid_text

HOSTILE = "a\x1b]0;title\x07b\x9bc\u202ed\x7fe\udcfff"


def test_control_characters_become_escapes() -> None:
    assert printable(HOSTILE) == r"a\x1b]0;title\x07b\x9bc\u202ed\x7fe\xfff"
    assert printable("plain\ttext\nwith é and 音楽") == "plain\ttext\nwith é and 音楽"
    assert one_line("two\n lines\t here\x00") == r"two lines here\x00"


def test_data_keep_every_character_that_can_be_encoded() -> None:
    assert valid_text(HOSTILE) == "a\x1b]0;title\x07b\x9bc\u202ed\x7fe\\xfff"
    assert valid_text("\ud800").encode() == rb"\ud800"


def test_json_keeps_its_strings_and_shows_no_control_character() -> None:
    text = json_text({"path": HOSTILE, "é": 1.5})
    assert printable(text) == text
    assert json.loads(text) == {"path": "a\x1b]0;title\x07b\x9bc\u202ed\x7fe\\xfff", "é": 1.5}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_never_holds_what_is_not_finite(number: float) -> None:
    with pytest.raises(EmosegError, match="not finite"):
        json_text({"confidence": number})


def test_only_own_warnings_are_reported(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    show_own_warnings()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show_own_warnings()
        warnings.warn("a library grumbles", RuntimeWarning, stacklevel=1)
        warnings.warn("songs \x1b share an artist", EmosegWarning, stacklevel=1)
    assert capsys.readouterr().err == "emoseg: songs \\x1b share an artist\n"


def test_a_message_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell("bad\nname\x1b[2J.mp3: no such file")
    assert capsys.readouterr().err == "emoseg: bad name\\x1b[2J.mp3: no such file\n"
