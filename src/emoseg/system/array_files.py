"""Files of named arrays, which are written whole or not at all, and checked when they are read."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emoseg.errors import EmosegError
from emoseg.system.files import written_whole


def save_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to an uncompressed .npz file, whole or not at all; its folder is made.

    Raises
    ------
    EmosegError
        The disk refuses.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{file.parent}: cannot be made: {error.strerror or error}") from error
    with written_whole(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]


def load_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that `save_arrays` wrote, after a check that it is undamaged.

    `numpy.load` is not used, because it does not check headers: it allocates memory for shapes that are larger than the
    file, and raises errors of many kinds.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, or is not of this kind.
    """
    try:
        with file.open("rb") as opened, zipfile.ZipFile(opened) as archive:
            size = os.fstat(opened.fileno()).st_size
            return {info.filename.removesuffix(".npy"): _member(archive, info, size) for info in archive.infolist()}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and the parser of headers raise errors of many kinds
        raise ValueError(f"{file}: is damaged: {error}") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
        raise ValueError(f"{info.filename} claims {info.file_size} bytes in a file of {size}")
    data = archive.read(info)  # which compares its checksum
    header = io.BytesIO(data)
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError(f"{info.filename} has another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    at = header.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - at:
        raise ValueError(f"{info.filename} claims the shape {shape} of {dtype}")
    array = np.frombuffer(data, dtype=dtype, offset=at)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
