"""The player of the report: the recording inside the page, a link to it, or the reason why there is none."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from emoseg.system.names import one_line

AUDIO_LIMIT_MB = 12.0
MIME_TYPES = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
}


@dataclass(frozen=True)
class _Sound:
    """The address that the player plays, ``data:`` or a link, and why there is none or only a link."""

    address: str = ""
    reason: str = ""


def player(audio: Path | None, folder: Path | None, limit_mb: float) -> str:
    """Return the HTML of the player, or of the reason why there is none.

    Parameters
    ----------
    audio : Path, optional
        The recording. It is put inside the page if it is of a type in `MIME_TYPES` and has at most `limit_mb`.
    folder : Path, optional
        Where the page will lie; a larger recording is then played from its own place.
    limit_mb : float
        Megabytes of 10**6 bytes.
    """
    sound = _sound(audio, folder, limit_mb)
    if sound.address:
        note = f'<p class="silent">{escape(sound.reason)}</p>' if sound.reason else ""
        return f'<audio id="audio" controls preload="auto" src="{sound.address}"></audio>{note}'
    link = ""
    if audio is not None and folder is not None and audio.is_file():
        link = f' <a href="{_relative_link(audio, folder)}">Open the recording</a>'
    return f'<p class="silent">{escape(sound.reason)}{link}</p>'


def _sound(audio: Path | None, folder: Path | None, limit_mb: float) -> _Sound:
    if audio is None:
        return _Sound(reason="The recording was left out of this page.")
    mime = MIME_TYPES.get(audio.suffix.lower())
    try:
        if not audio.is_file():
            return _Sound(reason="There is no player, because the recording's file was not found.")
        size_mb = audio.stat().st_size / 1e6
        if mime is None:
            kind = one_line(audio.suffix) or "without a suffix"
            return _Sound(reason=f"There is no player, because browsers do not play files {kind}.")
        if size_mb > limit_mb:
            reason = f"the recording has {size_mb:.1f} MB and a page holds at most {limit_mb:g} MB"
            if folder is None:
                return _Sound(reason=f"There is no player, because {reason}.")
            played = f"The recording is played from its own place, because {reason}."
            return _Sound(_relative_link(audio, folder), f"{played} It stops playing when either is moved.")
        return _Sound(address=f"data:{mime};base64,{base64.b64encode(audio.read_bytes()).decode()}")
    except OSError as error:
        return _Sound(reason=f"There is no player, because the recording cannot be read: {error.strerror or error}.")


def _relative_link(audio: Path, folder: Path) -> str:
    try:
        relative = os.path.relpath(audio, folder)
    except ValueError:  # another drive
        return escape(audio.absolute().as_uri())
    return escape(quote(os.fsencode(relative.replace(os.sep, "/"))))
