"""Progress on standard error: a bar with the remaining time on a terminal, else one line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Counts units of finished work; returned by `progress`."""

    def __init__(self, description: str, total: float, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0.0

    def advance(self, amount: float = 1.0) -> None:
        """Add `amount` units of finished work."""
        self.done += amount

    def expect(self, total: float) -> None:
        """Correct the total number of units, if it was an estimate."""
        self.total = total

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Remove the bar from the screen while the block prints something else."""
        yield


class _PlainProgress(Progress):
    """Prints one line every ten seconds, so that a log stays readable."""

    interval_s = 10.0

    def __init__(self, description: str, total: float, unit: str) -> None:
        super().__init__(description, total, unit)
        self._start = self._last = time.monotonic()

    def advance(self, amount: float = 1.0) -> None:
        super().advance(amount)
        now = time.monotonic()
        if now - self._last >= self.interval_s and self.done < self.total:
            self._last = now
            left = (now - self._start) * (self.total - self.done) / max(self.done, 1e-9)
            sys.stderr.write(
                f"{self.description}: {self.done:.0f}/{self.total:.0f} {self.unit}, about {left:.0f} s left\n"
            )
            sys.stderr.flush()


@contextmanager
def progress(description: str, total: float, *, unit: str = "", quiet: bool = False) -> Iterator[Progress]:
    """Show progress towards `total` units on standard error while the block runs.

    Parameters
    ----------
    description : str
        The work, such as ``"descriptors"``.
    total : float
        Number of units of work.
    unit : str
        Name of the units, such as ``"songs"``.
    quiet : bool
        Show nothing.

    Yields
    ------
    Progress
        Call its `advance` when work is finished.
    """
    if quiet:
        yield Progress(description, total, unit)
        return
    if not sys.stderr.isatty():
        yield _PlainProgress(description, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # rich must not redirect what is printed meanwhile: it would send standard output to standard error.
    console = Console(stderr=True)
    with RichProgress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(description, total=total)

        class _Bar(Progress):
            def advance(self, amount: float = 1.0) -> None:
                super().advance(amount)
                bar.advance(task, amount)

            def expect(self, total: float) -> None:
                super().expect(total)
                bar.update(task, total=total)

            @contextmanager
            def hidden(self) -> Iterator[None]:
                bar.stop()
                try:
                    yield
                finally:
                    bar.start()

        yield _Bar(description, total, unit)
