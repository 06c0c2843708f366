"""JSON: one object per recording, schema ``emoseg.analysis/1``, strict (no NaN), UTF-8.

The same object is a file of its own (format ``json``), a line of one file for all recordings (format ``jsonl``), and a
line on standard output (``emoseg analyze --json``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emoseg.system.console import json_text
from emoseg.types import AXES, Analysis, AnalysisFailure, SegmentEmotion, SongEmotion
from emoseg.writers.formats import Collection, CollectionFormat, Format
from emoseg.writers.numbers import rounded, rounded_or_none

SCHEMA = "emoseg.analysis/1"


def to_json(result: Analysis | AnalysisFailure) -> dict[str, Any]:
    """Return a result as plain dicts, lists, strings, floats and None.

    Parameters
    ----------
    result : Analysis or AnalysisFailure

    Returns
    -------
    dict
        Keys in a fixed order. A label is one of the space's, or "unsure", "speech", "noise", "tone" or "silence"; the
        last four come with no probabilities, and None for valence and arousal. Times are in seconds, probabilities in
        [0, 1], valence and arousal in [-1, 1] or None. All numbers are rounded to six decimals.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    if isinstance(result, AnalysisFailure):
        error = {"type": result.error_type, "message": result.message}
        return {"schema": SCHEMA, "path": result.path, "error": error}
    path, labels = result.path, result.space.labels
    song = result.song
    return {
        "schema": SCHEMA,
        "path": path,
        "duration_s": rounded(result.duration_s, path),
        "model": {"name": result.model_name, "version": result.model_version},
        "space": result.space.to_json(),
        "song": {
            "label": song.label,
            "probabilities": _probabilities(song, labels, path),
            "confidence": rounded(song.confidence, path),
            **_places(song, path),
        },
        "segments": [_segment(segment, labels, path) for segment in result.segments],
        "spans": [
            {"start_s": rounded(span.start_s, path), "end_s": rounded(span.end_s, path), "label": span.label}
            for span in result.spans
        ],
        "changes": [
            {"time_s": rounded(change.time_s, path), "from": change.before, "to": change.after}
            for change in result.changes
        ],
        "rules": {"unsure_below": rounded(result.unsure_below, path), **result.rules},
    }


def dumps(result: Analysis | AnalysisFailure) -> str:
    r"""Return a result as one line of JSON, without the line's end.

    Bytes of a file name that are not UTF-8 become ``\xNN``, because no strict JSON reader accepts them.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    return json_text(to_json(result))


def render(analysis: Analysis) -> str:
    """Return the text of a JSON file: one line and its end."""
    return dumps(analysis) + "\n"


class JsonLinesCollection(Collection):
    """Writes a line per recording, failures too, at once: the file holds what a killed run had done."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._end = 0  # of the lines written so far

    def add(self, result: Analysis | AnalysisFailure) -> None:
        """Write the line of a recording.

        Raises
        ------
        EmosegError
            A number is not finite, or the disk is full; the file then ends with the last whole line.
        """
        line = (dumps(result) + "\n").encode()
        with self.writing(), self.file.open("r+b" if self._end else "wb") as opened:
            opened.seek(self._end)
            try:
                opened.write(line)
                opened.flush()
            except OSError:
                opened.truncate(self._end)
                raise
            self._end += len(line)

    def close(self) -> None:
        """Do nothing: every line is in the file already."""


def _segment(segment: SegmentEmotion, labels: tuple[str, ...], path: str) -> dict[str, Any]:
    return {
        "start_s": rounded(segment.start_s, path),
        "end_s": rounded(segment.end_s, path),
        "label": segment.label,
        "probabilities": _probabilities(segment, labels, path),
        **_places(segment, path),
        "sound": segment.sound,
    }


def _places(emotion: SongEmotion | SegmentEmotion, path: str) -> dict[str, float | None]:
    return {axis: rounded_or_none(getattr(emotion, axis), path) for axis in AXES}


def _probabilities(emotion: SongEmotion | SegmentEmotion, labels: tuple[str, ...], path: str) -> dict[str, float]:
    # Sound that is not music has no probabilities.
    return {
        label: rounded(p, path) for label, p in zip(labels, emotion.probabilities, strict=bool(emotion.probabilities))
    }


JSON = Format(".json", render)
JSONL = CollectionFormat("emotions.jsonl", JsonLinesCollection)
