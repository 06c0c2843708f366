"""Artist and title of a recording, from the file's own tags, with the decoders that are there anyway."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import soundfile


def read_names(path: Path) -> tuple[str | None, str | None]:
    """Return artist and title; None for what the file does not say, or no decoder can tell."""
    try:
        with soundfile.SoundFile(os.fsencode(path)) as sound:
            found: Mapping[str, str] = sound.copy_metadata()
    except (soundfile.SoundFileError, OSError):
        found = _container_tags(path) if importlib.util.find_spec("av") else {}
    return _name(found.get("artist")), _name(found.get("title"))


def _container_tags(path: Path) -> dict[str, str]:
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            tags = dict(container.metadata)
    except (av.FFmpegError, OSError, ValueError):
        return {}
    return {key.lower(): value for key, value in tags.items()}


def _name(text: str | None) -> str | None:
    """Return text without control characters, or None where nothing is left."""
    kept = "".join(c for c in text or "" if c.isprintable()).strip()
    return kept.encode("utf-8", "replace").decode() or None
