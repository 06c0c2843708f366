from __future__ import annotations

import io

import pytest

from emoseg.system.progress import progress


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("emoseg.system.progress.time.monotonic", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with progress("features", 10, unit="songs") as bar:
        for _ in range(10):
            clock.now += 4
            bar.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "features: 3/10 songs, about 28 s left",
        "features: 6/10 songs, about 16 s left",
        "features: 9/10 songs, about 4 s left",
    ]
    assert bar.done == 10


def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    with progress("features", 2, unit="songs") as bar:
        clock.now += 3
        bar.advance()
        clock.now += 30
        bar.advance()
    assert capsys.readouterr() == ("", "")


def test_quiet_counts_in_silence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    with progress("features", 4, quiet=True) as bar:
        clock.now += 60
        bar.advance(2.5)
    assert bar.done == 2.5
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with progress("features", 4, unit="songs") as bar:
        bar.advance(3)
    assert bar.done == 3
    drawn = screen.getvalue()
    assert "features" in drawn
    assert "3/4" in drawn
    assert "songs" in drawn
    assert drawn.endswith("\x1b[2K"), "the bar's line is erased at the end"


@pytest.mark.parametrize("quiet", [True, False])
def test_an_error_inside_passes_through(quiet: bool) -> None:
    with pytest.raises(ValueError, match="inside"), progress("features", 4, quiet=quiet):
        raise ValueError("inside")
