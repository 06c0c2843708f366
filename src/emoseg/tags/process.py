"""Reading and writing tags with mutagen in another process, which a damaged file may crash or hang.

The memory of that process, its time and the growth of the files that it writes are limited.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emoseg.errors import MissingExtraError
from emoseg.system.parallel import start_module

PATIENCE_S = 60.0
"""Seconds for a small file; a large one gets more, because tags in front of the sound move all of it."""
_BYTES_PER_S = 10e6


class RefusedError(Exception):
    """The tags of a file cannot be read or written; the message says why."""


@dataclass(frozen=True)
class FileTags:
    """The tags of a file that concern emoseg.

    Parameters
    ----------
    mood : tuple of str
        All values of mood fields, whoever wrote them.
    mood_field : str
        Name of the field that a mood would be written to.
    own : dict of str to str
        The fields with emoseg's prefix.
    """

    mood: tuple[str, ...]
    mood_field: str
    own: dict[str, str]


class TagProcess:
    """A process that reads and writes tags; it is started on first use, and again after it ended.

    Raises
    ------
    MissingExtraError
        mutagen is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("mutagen") is None:
            raise MissingExtraError("reading and writing file tags", "tags")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def read(self, path: Path) -> FileTags:
        """Return the tags of a file.

        Raises
        ------
        RefusedError
            The tags cannot be read, or the container cannot hold tags.
        """
        return self._tags(path, None)

    def write(self, path: Path, *, mood: str | None, own: Mapping[str, str]) -> FileTags:
        """Replace emoseg's own fields by `own`, and the mood by `mood`; None leaves the mood, an empty one removes it.

        Returns
        -------
        FileTags
            The tags before the change.

        Raises
        ------
        RefusedError
            The tags cannot be written; the file may be half-written.
        """
        return self._tags(path, {"mood": mood, "own": dict(own)})

    def _tags(self, path: Path, changes: dict[str, Any] | None) -> FileTags:
        request = {"path": os.fsencode(path.absolute()).hex(), "changes": changes}
        answer = self._ask(request, PATIENCE_S + path.stat().st_size / _BYTES_PER_S)
        if "refused" in answer:
            raise RefusedError(f"its tags cannot be {'read' if changes is None else 'written'}: {answer['refused']}")
        return FileTags(tuple(answer["mood"]), answer["mood_field"], answer["own"])

    def _ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        process = self._process = self._process or start_module("emoseg.tags.containers")
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(limit_s, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:  # the process has died
            answer = b""
        except BaseException:  # such as Ctrl-C; the answer must not be taken for that of the next request
            self._end()
            raise
        finally:
            watch.cancel()
        if not answer.endswith(b"\n"):
            self._end()
            raise RefusedError(f"its tags cannot be read: the tag library crashed, or took more than {limit_s:.0f} s")
        return json.loads(answer)

    def _end(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.communicate()
