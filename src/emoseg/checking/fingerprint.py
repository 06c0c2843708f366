"""Audio fingerprints that find the same recording in another encoding, at another level, or with another beginning.

A fingerprint is a word of 32 bits every 23 ms: for each of 32 pairs of neighbouring bands from 300 to 2000 Hz, whether
the difference of their log energies grew since the frame before (Haitsma, Kalker 2002, with longer hops). Two unrelated
recordings agree in half of their bits. Copies of 4Q clips agree in 84 % or more, down to AAC at 32 kbit/s, and in 77 %
as Opus at 16 kbit/s, where 2 of 25 are missed. Only the first minute is used: a clip from the middle of a song is not
found.

`near_duplicates` compares only pairs that have words in common at the same distance in time, so its cost grows with the
number of words and not with its square.

References
----------
J. Haitsma, T. Kalker. A highly robust audio fingerprinting system. ISMIR 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from emoseg.errors import CorpusError
from emoseg.types import Float32, Int64

Words = NDArray[np.uint32]

SAMPLE_RATE_HZ = 5512.5
SECONDS = 60.0
HOP_S = 128 / SAMPLE_RATE_HZ
MAX_ERROR = 0.35
"""Share of unequal bits below which two recordings are the same (the threshold of Haitsma and Kalker)."""
MIN_OVERLAP_S = 5.0

_FFT, _HOP, _BANDS, _RANGE_HZ = 2048, 128, 33, (300.0, 2000.0)
_MAX_WORDS = 1 << 25  # words compared at once: 256 MiB; of more, only those of some residue classes
_MAX_SHARED = 64  # a word in more recordings than this, such as that of silence, says nothing about identity
_NEIGHBOURS = 8  # recordings with the same word that each is compared with; more copies are joined through these
_SONG_BITS, _TIME_BITS = 20, 12
_MAX_SONGS = 1 << _SONG_BITS


def fingerprint(samples: Float32) -> Words:
    """Return the fingerprint of a recording's beginning.

    Parameters
    ----------
    samples : array, shape (n,)
        Mono sound at `SAMPLE_RATE_HZ`; only the first `SECONDS` are used.

    Returns
    -------
    array of uint32, shape (T,)
        One word per hop of 23 ms; empty for less than half a second.
    """
    samples = samples[: round(SECONDS * SAMPLE_RATE_HZ)]
    if len(samples) < _FFT + _HOP:
        return np.empty(0, dtype=np.uint32)
    edges, window = _layout()
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FFT)[::_HOP]
    energy = np.empty((len(frames), _BANDS))
    for at in range(0, len(frames), 256):
        spectrum = rfft(frames[at : at + 256] * window, axis=1)[:, : edges[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        energy[at : at + 256] = np.add.reduceat(power, edges[:-1], axis=1)
    level = np.log(energy + 1e-9 * max(float(energy.mean()), 1e-12))  # relative, so that the level does not matter
    slope = level[:, :-1] - level[:, 1:]
    bits = np.diff(slope, axis=0) > 0
    words: Words = np.packbits(bits, axis=1).view(">u4").ravel().astype(np.uint32)
    return words[: 1 << _TIME_BITS]


@lru_cache(maxsize=1)
def _layout() -> tuple[Int64, Float32]:
    edges = np.round(np.geomspace(*_RANGE_HZ, _BANDS + 1) * _FFT / SAMPLE_RATE_HZ).astype(np.int64)
    return edges, np.hanning(_FFT).astype(np.float32)


@dataclass(frozen=True)
class Duplicate:
    """Two recordings that are the same.

    Parameters
    ----------
    first, second : int
        Indices, the smaller first.
    error : float
        Share of unequal bits, in [0, `MAX_ERROR`).
    offset_s : float
        How much later the first one begins, in seconds.
    """

    first: int
    second: int
    error: float
    offset_s: float


def near_duplicates(prints: Sequence[Words]) -> list[Duplicate]:
    """Return all pairs of recordings that sound the same.

    Parameters
    ----------
    prints : sequence of array of uint32
        One fingerprint per recording, at most a million. They are read one at a time, so they may be on disk.

    Returns
    -------
    list of Duplicate
        Sorted by index. If a recording has many copies, there are enough pairs to join all of them.

    Raises
    ------
    CorpusError
        There are more than a million fingerprints.
    """
    if len(prints) > _MAX_SONGS:
        raise CorpusError(f"{len(prints)} recordings are too many to compare; at most {_MAX_SONGS}")
    pairs = _candidates(_index(prints))
    found: dict[tuple[int, int], Duplicate] = {}
    for first, second, shift in pairs:
        best = min(
            ((_error(prints[first], prints[second], shift + d), shift + d) for d in (-1, 0, 1)), default=(1.0, shift)
        )
        known = found.get((first, second))
        if best[0] < MAX_ERROR and (known is None or best[0] < known.error):
            found[first, second] = Duplicate(first, second, best[0], -best[1] * HOP_S)
    return [found[key] for key in sorted(found)]


def _error(a: Words, b: Words, shift: int) -> float:
    """Return the share of unequal bits when word t of `a` is compared with word t - shift of `b`."""
    a, b = (a[shift:], b) if shift >= 0 else (a, b[-shift:])
    n = min(len(a), len(b))
    if n * HOP_S < MIN_OVERLAP_S:
        return 1.0
    return float(np.bitwise_count(a[:n] ^ b[:n]).sum() / (32 * n))


def _index(prints: Sequence[Words]) -> NDArray[np.uint64]:
    """Return word, song and time of every informative word, packed into 64 bits and sorted."""
    total = sum(len(words) for words in prints)
    residues = -(-total // _MAX_WORDS)
    packed = bytearray()  # grows in place: a list of parts and their whole would be twice the memory
    for song, words in enumerate(prints):
        distinct, at = np.unique(words, return_index=True)
        kept = (distinct != 0) & (distinct != np.uint32(0xFFFFFFFF))
        if residues > 1:
            kept &= (distinct * np.uint32(2654435761) >> np.uint32(8)) % np.uint32(residues) == 0
        place = np.uint64(song << _TIME_BITS) | at[kept].astype(np.uint64)
        packed += (distinct[kept].astype(np.uint64) << np.uint64(_SONG_BITS + _TIME_BITS) | place).tobytes()
    index: NDArray[np.uint64] = np.frombuffer(packed, dtype=np.uint64)
    index.sort()
    return index


def _candidates(index: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
    """Return pairs of songs that share two or more words at one distance in time, and that distance in hops."""
    word = (index >> np.uint64(_SONG_BITS + _TIME_BITS)).astype(np.uint32)
    same = word[1:] == word[:-1]
    shared = np.append(False, same) | np.append(same, False) if len(word) else np.zeros(0, dtype=bool)
    word, place = word[shared], index[shared] & np.uint64((1 << _SONG_BITS + _TIME_BITS) - 1)
    sizes = np.unique(word, return_counts=True)[1]
    rare = np.repeat(sizes <= _MAX_SHARED, sizes)
    word, place = word[rare], place[rare]
    song = (place >> np.uint64(_TIME_BITS)).astype(np.int64)
    time = (place & np.uint64((1 << _TIME_BITS) - 1)).astype(np.int64)
    keys = []
    for step in range(1, _NEIGHBOURS + 1):
        same = np.flatnonzero(word[step:] == word[:-step]) if len(word) > step else np.empty(0, dtype=np.int64)
        if not len(same):
            break
        a, b = same, same + step  # the index is sorted by song within a word, so a's song is the smaller
        shift = time[a] - time[b] + (1 << _TIME_BITS)
        keys.append(song[a] << (_SONG_BITS + _TIME_BITS + 1) | song[b] << (_TIME_BITS + 1) | shift)
    if not keys:
        return []
    key, hits = np.unique(np.concatenate(keys), return_counts=True)
    key = key[hits > 1]
    first, second = key >> (_SONG_BITS + _TIME_BITS + 1), key >> (_TIME_BITS + 1) & (_MAX_SONGS - 1)
    shift = (key & ((1 << _TIME_BITS + 1) - 1)) - (1 << _TIME_BITS)
    return list(zip(first.tolist(), second.tolist(), shift.tolist(), strict=True))
