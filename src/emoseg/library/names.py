"""Artist and title of a recording, from the file's own tags, with the decoders that are there anyway."""

from __future__ import annotations

from pathlib import Path

from emoseg.audio.decoding import stated_tags


def read_names(path: Path) -> tuple[str | None, str | None]:
    """Return artist and title; None for what the file does not say, or no decoder can tell."""
    found = stated_tags(path)
    return _name(found.get("artist")), _name(found.get("title"))


def _name(text: str | None) -> str | None:
    """Return text without control characters, or None where nothing is left."""
    kept = "".join(c for c in text or "" if c.isprintable()).strip()
    return kept.encode("utf-8", "replace").decode() or None
