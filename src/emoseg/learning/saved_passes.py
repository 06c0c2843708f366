"""Finished passes of one member on disk, so that a training that was killed continues after the last of them."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from emoseg.errors import EmosegError, EmosegWarning
from emoseg.learning.trainer import State
from emoseg.system.files import remove_leftovers, require_regular, write_whole
from emoseg.system.unfinished import remove


def without_optimiser(state: State) -> State:
    """Return a state without the optimiser's moments, which only the next pass needs."""
    return {name: array for name, array in state.items() if not name.startswith("optimiser")}


def save_pass(folder: Path, epoch: int, state: State, record: dict[str, Any]) -> None:
    """Save a finished pass, and remove the optimiser's moments from the pass before it.

    Parameters
    ----------
    folder : Path
        Folder of one member; made if it does not exist.
    epoch : int
        Number of the pass, from 0.
    state : State
        State of the trainer after the pass.
    record : dict
        What the pass reported, as JSON can hold it.

    Raises
    ------
    EmosegError
        The folder or the file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmosegError(f"{folder}: cannot be made: {error.strerror or error}") from error
    _write_pass(_pass_file(folder, epoch), state, record)
    if epoch and (previous := _pass_file(folder, epoch - 1)).exists():
        # Only the last pass needs the moments; without them a file is a third of the size.
        earlier, noted = _read_pass(previous)
        _write_pass(previous, without_optimiser(earlier), noted)


def load_passes(folder: Path | None) -> tuple[list[State], list[dict[str, Any]]]:
    """Return the states and records of all saved passes from which learning can continue, in order.

    Passes after a gap or a damaged file are not returned. Without a folder there are none.
    """
    states: list[State] = []
    records: list[dict[str, Any]] = []
    while folder and (file := _pass_file(folder, len(states))).exists():
        try:
            state, record = _read_pass(file)
        except ValueError:
            break
        states.append(state)
        records.append(record)
    # A process that was killed between two writes leaves a last pass without moments. It cannot be continued from.
    while states and not any(name.startswith("optimiser") for name in states[-1]):
        states.pop()
        records.pop()
    return states, records


def remove_damaged_passes(folder: Path | None) -> None:
    """Remove damaged passes of a member, and temporary files that a killed process left.

    Warns
    -----
    EmosegWarning
        A pass is damaged; it is learnt again.
    """
    if folder is None or not folder.is_dir():
        return
    remove_leftovers(folder)
    epoch = 0
    while (file := _pass_file(folder, epoch)).exists():
        try:
            _read_pass(file)
        except ValueError:
            warnings.warn(f"{file}: is damaged; it is learnt again", EmosegWarning, stacklevel=2)
            remove(file)
        epoch += 1


def _pass_file(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:04d}.safetensors"


def _write_pass(file: Path, state: State, record: dict[str, Any]) -> None:
    arrays = {
        k: np.asarray(v, order="C") for k, v in state.items()
    }  # ascontiguousarray would turn scalars into vectors
    noted = json.dumps({"record": record, "checksum": _checksum(arrays, record)})
    write_whole(file, save(arrays, metadata={"pass": noted}))


def _read_pass(file: Path) -> tuple[State, dict[str, Any]]:
    """Return a saved pass.

    Raises
    ------
    ValueError
        `_write_pass` did not write this file, or it has changed since.
    """
    try:
        require_regular(file)
        with safe_open(file, framework="numpy") as saved:
            noted = json.loads(saved.metadata()["pass"])
            state: State = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118  (not a mapping)
        record: dict[str, Any] = noted["record"]
        checksum = noted["checksum"]
    except Exception as error:  # safetensors, JSON and numpy raise all kinds of errors on a damaged file
        raise ValueError(f"{file}: is damaged: {error}") from error
    if checksum != _checksum(state, record):
        raise ValueError(f"{file}: is damaged: its checksum does not match")
    return state, record


def _checksum(state: State, record: dict[str, Any]) -> str:
    """Return 32 hexadecimal digits that depend on all of a pass; the safetensors format has no checksum."""
    digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=16)
    for name in sorted(state):
        array = np.asarray(state[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
