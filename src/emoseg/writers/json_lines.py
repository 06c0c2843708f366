"""JSON: one object a recording, schema ``emoseg.analysis/1``, strict (no NaN), UTF-8.

The same object is a file of its own (format ``json``) and a line on standard output (``emoseg analyze --json``).
"""

from __future__ import annotations

import json
import math
from typing import Any

from emoseg.errors import EmosegError
from emoseg.types import Analysis, AnalysisFailure, SegmentEmotion, SongEmotion

SCHEMA = "emoseg.analysis/1"
DECIMALS = 6


def to_json(result: Analysis | AnalysisFailure) -> dict[str, Any]:
    """Return a result as plain dicts, lists, strings, floats and None.

    Parameters
    ----------
    result : Analysis or AnalysisFailure

    Returns
    -------
    dict
        Keys in a fixed order. Times are in seconds, probabilities in [0, 1], valence and arousal in [-1, 1] or None;
        all rounded to six decimals.

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
            "valence": rounded_or_none(song.valence, path),
            "arousal": rounded_or_none(song.arousal, path),
        },
        "segments": [_segment(segment, labels, path) for segment in result.segments],
        "spans": [
            {"start_s": rounded(span.start_s, path), "end_s": rounded(span.end_s, path), "label": span.label}
            for span in result.spans
        ],
    }


def dumps(result: Analysis | AnalysisFailure) -> str:
    """Return a result as one line of JSON, without the line's end.

    Bytes of a file name that are not UTF-8 become U+FFFD, because no strict JSON reader accepts them.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    line = json.dumps(to_json(result), ensure_ascii=False, allow_nan=False)
    return line.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def render(analysis: Analysis) -> str:
    """Return the text of a JSON file: one line and its end."""
    return dumps(analysis) + "\n"


def rounded(value: float, path: str) -> float:
    """Return `value` as a plain float with six decimals; raise EmosegError, naming `path`, where it is not finite."""
    number = float(value)
    if not math.isfinite(number):
        raise EmosegError(f"{path}: the analysis holds {number}, but results must be finite numbers")
    return round(number, DECIMALS) + 0.0  # adding zero turns -0.0 into 0.0


def rounded_or_none(value: float | None, path: str) -> float | None:
    """Return `rounded`, or None for a label set that has no such axis."""
    return None if value is None else rounded(value, path)


def _segment(segment: SegmentEmotion, labels: tuple[str, ...], path: str) -> dict[str, Any]:
    return {
        "start_s": rounded(segment.start_s, path),
        "end_s": rounded(segment.end_s, path),
        "label": segment.label,
        "probabilities": _probabilities(segment, labels, path),
        "valence": rounded_or_none(segment.valence, path),
        "arousal": rounded_or_none(segment.arousal, path),
    }


def _probabilities(emotion: SongEmotion | SegmentEmotion, labels: tuple[str, ...], path: str) -> dict[str, float]:
    return {label: rounded(p, path) for label, p in zip(labels, emotion.probabilities, strict=True)}
