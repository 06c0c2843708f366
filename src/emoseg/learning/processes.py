"""Members learnt in several processes, which map one copy of the features from disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.errors import EmosegError
from emoseg.frontends.store import default_cache
from emoseg.learning.members import MemberJob, MemberPasses, learn_member
from emoseg.system.files import remove_leftovers, work_folder
from emoseg.system.parallel import ONE_THREAD, Start, run_parallel


def process_environment() -> dict[str, str]:
    """Return environment variables for processes that learn: one thread each, and freed memory is kept for reuse.

    By default the C library of Linux returns freed memory to the system and requests it again a hundred times per
    second, which takes a fifth of the time of a convolutional network. It reads these variables when a process starts;
    other systems ignore them.
    """
    kept = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
    return {name: os.environ.get(name, value) for name, value in kept.items()} | dict(ONE_THREAD)


@contextmanager
def arrays_on_disk(arrays: Mapping[str, NDArray[Any]], parent: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Yield a temporary folder in `parent` and the .npy files in it, which all processes can map: one copy for all.

    Raises
    ------
    EmosegError
        The disk is full, or `parent` cannot be written to.
    """
    with ExitStack() as stack:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(parent)
            folder = stack.enter_context(work_folder(parent))
            files = {name: folder / f"{name}.npy" for name in arrays}
            for name, file in files.items():
                _save_array(file, arrays[name])
        except OSError as error:
            raise EmosegError(f"{parent}: cannot be written: {error.strerror or error}") from error
        yield folder, files


def learn_members_in_processes(
    features: NDArray[np.floating],
    jobs: list[MemberJob],
    workers: int,
    *,
    folder: Path | None,
    on_pass: Callable[[], object] | None,
) -> list[MemberPasses]:
    """Learn members in several processes; return what each learnt, in the order of `jobs`.

    Parameters
    ----------
    features : array, shape (S, ...)
    jobs : list of MemberJob
    workers : int
        Number of processes.
    folder : Path or None
        Folder for the copy of the features; default the cache.
    on_pass : callable or None
        Called in this process for each pass of each member.
    """
    with arrays_on_disk({"features": features}, folder or default_cache()) as (shared, files):
        # Every process appends a byte per pass to this file, so its size is the number of passes.
        counter, reported = shared / "passes", 0
        counter.touch()

        def report() -> None:
            nonlocal reported
            while on_pass and reported < counter.stat().st_size:
                reported += 1
                on_pass()

        start = Start(_start_learning, (files["features"], counter), environment=process_environment(), folder=shared)
        learnt: dict[int, MemberPasses] = {}
        try:
            with closing(run_parallel(jobs, start, workers=workers, on_wait=report)) as finished:
                for member, passes in finished:
                    learnt[member] = passes
        finally:
            for job in jobs:  # where one process failed, the others were ended in the middle of a write
                if job.folder is not None:
                    remove_leftovers(job.folder)
        report()
        return [learnt[member] for member in range(len(jobs))]


def _start_learning(features: Path, counter: Path) -> Callable[[MemberJob], MemberPasses]:
    """Return, in a process of its own, a function that learns a member and counts its passes in the file `counter`."""
    table = np.load(features, mmap_mode="r")
    counted = os.open(counter, os.O_WRONLY | os.O_APPEND)
    return lambda job: learn_member(table, job, lambda: os.write(counted, b"."))


def _save_array(file: Path, array: NDArray[Any]) -> None:
    """Write a .npy file as `numpy.save` does; unlike it, keep the system's error message where the disk is full."""
    whole = np.ascontiguousarray(array)
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, np.lib.format.header_data_from_array_1_0(whole))
        opened.write(whole.data)
