"""Playlists that lead from one mood to another: a smooth path through the songs' places in the emotion plane.

The path follows the straight line between two places, on which every song has a target. A beam search picks songs, none
twice, so that the sum of their distances to the targets and of their deviations from even steps is small.
"""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoseg.errors import EmosegError, EmosegWarning
from emoseg.system.files import require_regular, write_whole
from emoseg.types import Float64

HEADER = b"#EXTM3U"
_BEAM = 64  # paths kept at each step
_NEAR = 48  # number of songs nearest to a target that are tried


@dataclass(frozen=True)
class PlaylistSong:
    """A song as a playlist names it: its file, artist and title, and its length in seconds."""

    path: Path
    artist: str | None
    title: str | None
    duration_s: float


def smooth_path(
    places: Float64, start: Float64, end: Float64, *, length: int, artists: Sequence[str | None] = (), apart: int = 0
) -> list[int]:
    """Return the indices of songs along the line from `start` to `end`, in order.

    Parameters
    ----------
    places : array, shape (N, D)
        The place of each song, such as its valence and arousal.
    start, end : array, shape (D,)
    length : int
        Number of songs; the result is shorter if there are fewer, or if `apart` leaves none.
    artists : sequence of str or None, length N
        Known artists.
    apart : int
        Least number of songs between two of the same artist.

    Returns
    -------
    list of int
        No song twice. The search keeps small the sum, over songs, of the squared distance to the target and the
        squared deviation of the step to the song from an even step.
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
    """Return the songs that may follow a path, the nearest to the target first."""
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


def of_length(chosen: Sequence[int], durations: Sequence[float], wanted_s: float) -> list[int]:
    """Return a path without some of its inner songs, so that its length is nearest to the one wanted.

    Parameters
    ----------
    chosen : sequence of int
        Songs in order.
    durations : sequence of float
        Seconds of every song.
    wanted_s : float
    """
    kept = list(chosen)
    while len(kept) > 2:
        excess = sum(durations[i] for i in kept) - wanted_s
        inner = min(range(1, len(kept) - 1), key=lambda k: (abs(durations[kept[k]] - excess), k))
        if abs(excess - durations[kept[inner]]) >= abs(excess):
            break
        del kept[inner]
    return kept


def expressible(path: str) -> bool:
    """Return whether a playlist can hold a path.

    A line break would end the entry, and players drop other control characters.
    """
    return not any(_controls(character) for character in path)


def m3u8(songs: Sequence[PlaylistSong], *, folder: Path, root: Path) -> bytes:
    """Return the content of an M3U8 playlist.

    Paths are relative if the playlist lies in the folder of the recordings, so that both can be moved together, else
    absolute. They are the file system's own bytes. Songs whose paths are not `expressible` are left out with a warning.

    Parameters
    ----------
    songs : sequence of Song
    folder : Path
        The folder of the playlist.
    root : Path
        The folder of the library's recordings.
    """
    lines = [HEADER]
    inside = folder.resolve().is_relative_to(root)
    for song in songs:
        path = os.path.relpath(song.path, folder.resolve()) if inside else os.fspath(song.path)
        if not expressible(path):
            warning = f"{song.path}: is left out, because a playlist cannot hold a path with a control character"
            warnings.warn(warning, EmosegWarning, stacklevel=2)
            continue
        name = " - ".join(part for part in (song.artist, song.title) if part) or song.path.stem
        name = "".join(" " if _controls(character) else character for character in name)
        lines.append(b"#EXTINF:" + str(round(song.duration_s)).encode() + b"," + os.fsencode(name))
        # A name may begin with "#", which starts a comment.
        lines.append(os.fsencode(path if os.path.isabs(path) else os.path.join(".", path)))  # noqa: PTH117, PTH118
    return b"\n".join(lines) + b"\n"


def write_playlist(file: Path, songs: Sequence[PlaylistSong], *, root: Path) -> None:
    """Write an M3U8 playlist; an earlier playlist of that name is replaced.

    Parameters
    ----------
    file : Path
    songs : sequence of PlaylistSong
    root : Path
        The folder of the library's recordings.

    Raises
    ------
    EmosegError
        The file cannot be written, or is something else than a playlist.
    """
    if os.path.lexists(file):
        require_regular(file)
        try:
            with file.open("rb") as opened:
                start = opened.read(3 + len(HEADER)).removeprefix(b"\xef\xbb\xbf")  # the mark of UTF-8
        except OSError as error:
            raise EmosegError(f"{file}: cannot be read: {error.strerror or error}") from error
        if not start.startswith(HEADER):
            raise EmosegError(f"{file}: exists already and is not a playlist; choose another name")
    write_whole(file, m3u8(songs, folder=file.parent, root=root))


def _controls(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Zl", "Zp"}
