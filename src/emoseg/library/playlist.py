"""A playlist that goes from one mood to another: a smooth path through the songs' places in the emotion plane.

The path is a straight line between two places; each song has a target on it. A beam search picks songs, none twice,
whose distances to their targets and whose steps from song to song are small together.
"""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoseg.errors import EmosegWarning
from emoseg.types import Float64

HEADER = b"#EXTM3U"
_BEAM = 64  # paths kept at each step
_NEAR = 48  # songs nearest to a target that are tried


@dataclass(frozen=True)
class Song:
    """A song that may be in a playlist."""

    path: Path
    artist: str | None
    title: str | None
    duration_s: float


def smooth_path(
    places: Float64, start: Float64, end: Float64, *, length: int, artists: Sequence[str | None] = (), apart: int = 0
) -> list[int]:
    """Pick songs along the line from `start` to `end`.

    Parameters
    ----------
    places : array, shape (N, D)
        Where each song lies, such as its valence and arousal.
    start, end : array, shape (D,)
    length : int
        Number of songs; fewer are returned where there are fewer, or where `apart` leaves none.
    artists : sequence of str or None, length N
        Known artists.
    apart : int
        At least this many songs lie between two of the same artist.

    Returns
    -------
    list of int
        Songs in order, none twice. The cost that is small is the sum, over songs, of the squared distance to the
        target and the squared deviation of the step to the song from an even step.
    """
    length = min(length, len(places))
    targets = start + np.linspace(0, 1, length)[:, None] * (end - start)
    step = (end - start) / max(length - 1, 1)
    beam: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for target in targets:
        off = ((places - target) ** 2).sum(axis=1)
        grown = []
        for cost, path in beam:
            free = _free(off, path, artists, apart)
            rough = 0.0 if not path else ((places[free] - places[path[-1]] - step) ** 2).sum(axis=1)
            costs = cost + off[free] + rough
            grown += [(float(c), (*path, int(i))) for c, i in zip(costs, free, strict=True)]
        if not grown:
            break
        beam = _best(grown)
    return list(beam[0][1])


def _free(off: Float64, path: tuple[int, ...], artists: Sequence[str | None], apart: int) -> list[int]:
    """Return the songs nearest to a target that may follow a path."""
    recent = {artists[i] for i in path[-apart:] if artists[i]} if apart and artists else set()
    used = set(path)
    if recent or len(off) <= _NEAR + len(path):
        order = np.argsort(off, kind="stable")
    else:
        near = np.argpartition(off, _NEAR + len(path))[: _NEAR + len(path)]
        order = near[np.lexsort((near, off[near]))]
    chosen = []
    for i in order.tolist():
        if i not in used and not (recent and artists[i] in recent):
            chosen.append(i)
            if len(chosen) == _NEAR:
                break
    return chosen


def _best(grown: list[tuple[float, tuple[int, ...]]]) -> list[tuple[float, tuple[int, ...]]]:
    """Keep the cheapest paths, one for each set of songs with the same end."""
    kept: dict[tuple[frozenset[int], int], tuple[float, tuple[int, ...]]] = {}
    for cost, path in sorted(grown):
        kept.setdefault((frozenset(path), path[-1]), (cost, path))
        if len(kept) == _BEAM:
            break
    return list(kept.values())


def expressible(path: str) -> bool:
    """Whether a playlist can hold a path: a line break ends an entry, and players drop other control characters."""
    return not any(_controls(character) for character in path)


def m3u8(songs: Sequence[Song], *, folder: Path, root: Path) -> bytes:
    """Return a playlist file.

    Paths are relative where the file lies in the library's folder, so that both can move together, else absolute. They
    are the file system's own bytes. Songs whose paths are not `expressible` are left out, with a warning.

    Parameters
    ----------
    songs : sequence of Song
    folder : Path
        Where the file will lie.
    root : Path
        The folder of the library's recordings.
    """
    lines = [HEADER]
    inside = folder.resolve().is_relative_to(root)
    for song in songs:
        path = os.path.relpath(song.path, folder.resolve()) if inside else os.fspath(song.path)
        if not expressible(path):
            told = f"{song.path}: is left out, because a playlist cannot hold a path with a control character"
            warnings.warn(told, EmosegWarning, stacklevel=2)
            continue
        name = " - ".join(part for part in (song.artist, song.title) if part) or song.path.stem
        name = "".join(" " if _controls(character) else character for character in name)
        lines.append(b"#EXTINF:" + str(round(song.duration_s)).encode() + b"," + os.fsencode(name))
        # A name may begin with "#", which starts a comment.
        lines.append(os.fsencode(path if os.path.isabs(path) else os.path.join(".", path)))  # noqa: PTH117, PTH118
    return b"\n".join(lines) + b"\n"


def _controls(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Zl", "Zp"}
