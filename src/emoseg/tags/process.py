"""mutagen in another process: whatever a damaged file does to it, this process goes on.

The process's memory and the growth of the files that it writes are limited (`containers`), and so is its time.
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
"""Seconds for a file, and more for its size: tags in front of the sound move all of it."""
_BYTES_PER_S = 10e6


class RefusedError(Exception):
    """The tags of a file cannot be read or written; the words say why."""


@dataclass(frozen=True)
class FileTags:
    """What a file's tags say.

    `mood` are all values of the mood fields, whoever wrote them; `mood_field` is the name of the field that a mood
    would be written to; `own` are the fields with emoseg's prefix.
    """

    mood: tuple[str, ...]
    mood_field: str
    own: dict[str, str]


class TagProcess:
    """A process that reads and writes tags: started on first use, and again after it had to be ended.

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
            They cannot be read, or its container cannot hold tags.
        """
        return self._tags(path, None)

    def write(self, path: Path, *, mood: str | None, own: Mapping[str, str]) -> FileTags:
        """Replace emoseg's own fields by `own`, and the mood by `mood`: None leaves it, an empty one removes it.

        Returns
        -------
        FileTags
            The tags before that.

        Raises
        ------
        RefusedError
            They cannot be written; the file may be half-written.
        """
        return self._tags(path, {"mood": mood, "own": dict(own)})

    def _tags(self, path: Path, changes: dict[str, Any] | None) -> FileTags:
        request = {"path": os.fsencode(path.absolute()).hex(), "changes": changes}
        told = self._ask(request, PATIENCE_S + path.stat().st_size / _BYTES_PER_S)
        if "refused" in told:
            raise RefusedError(f"its tags cannot be {'read' if changes is None else 'written'}: {told['refused']}")
        return FileTags(tuple(told["mood"]), told["mood_field"], told["own"])

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
        except OSError:  # it died meanwhile
            answer = b""
        except BaseException:  # such as Ctrl-C: its answer must not be taken for that of another request
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
