"""Learning from inherited labels; the only package that uses PyTorch."""

from __future__ import annotations

from importlib.util import find_spec

from emoseg.errors import MissingExtraError


def require_train_extra() -> None:
    """Do nothing if the packages that learning needs are installed.

    Raises
    ------
    MissingExtraError
        One of them is missing; the message is the command that installs all of them.
    """
    if any(find_spec(name) is None for name in ("torch", "sklearn", "onnx", "onnxscript")):
        raise MissingExtraError("learning", "train")
