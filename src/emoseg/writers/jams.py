"""JAMS: the annotation format of music information retrieval research, as JSON.

A file has up to three annotations: ``mood_thayer`` (valence and arousal of each segment, in that order, -1 to 1; left
out where the space has no such axes), ``segment_open`` (the spans), and ``tag_open`` (the song's answer, over its whole
length). The probabilities of a segment are the confidence of its observation. The JSON is written here, so that no
package is needed; the tests read it with the package jams.

References
----------
E. J. Humphrey et al. JAMS: a JSON annotated music specification for reproducible MIR research. ISMIR 2014.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emoseg.system.console import json_text
from emoseg.types import Analysis
from emoseg.writers.formats import Format
from emoseg.writers.json_lines import to_json
from emoseg.writers.numbers import rounded

JAMS_VERSION = "0.3.5"


def render(analysis: Analysis) -> str:
    """Return the text of a JAMS file.

    Raises
    ------
    EmosegError
        A number is not finite.
    """
    result = to_json(analysis)
    duration_s = result["duration_s"]
    song = result["song"]
    whole = _observation(0.0, duration_s, song["label"], song["confidence"])
    annotations = [
        _annotation(analysis, "segment_open", [_span(span) for span in result["spans"]], duration_s),
        _annotation(analysis, "tag_open", [whole], duration_s),
    ]
    placed = [s for s in result["segments"] if s["valence"] is not None and s["arousal"] is not None]
    if placed:
        annotations.insert(0, _annotation(analysis, "mood_thayer", [_place(s) for s in placed], duration_s))
    document = {
        "annotations": annotations,
        "file_metadata": {
            "title": Path(analysis.path).name,
            "artist": "",
            "release": "",
            "duration": duration_s,
            "identifiers": {},
            "jams_version": JAMS_VERSION,
        },
        "sandbox": {"emoseg": {key: result[key] for key in ("schema", "path", "model", "space", "song", "rules")}},
    }
    return json_text(document, indent=1) + "\n"


def _observation(time_s: float, duration_s: float, value: Any, confidence: Any) -> dict[str, Any]:
    return {"time": time_s, "duration": duration_s, "value": value, "confidence": confidence}


def _span(span: dict[str, Any]) -> dict[str, Any]:
    return _observation(span["start_s"], rounded(span["end_s"] - span["start_s"], "span"), span["label"], None)


def _place(segment: dict[str, Any]) -> dict[str, Any]:
    length_s = rounded(segment["end_s"] - segment["start_s"], "segment")
    return _observation(
        segment["start_s"], length_s, [segment["valence"], segment["arousal"]], segment["probabilities"]
    )


def _annotation(
    analysis: Analysis, namespace: str, observations: list[dict[str, Any]], duration_s: float
) -> dict[str, Any]:
    rules = "; ".join(f"{name}: {rule}" for name, rule in analysis.rules.items())
    return {
        "namespace": namespace,
        "data": observations,
        "annotation_metadata": {
            "curator": {"name": "", "email": ""},
            "annotator": {},
            "version": analysis.model_version,
            "corpus": "",
            "annotation_tools": f"emoseg, model {analysis.model_name}",
            "annotation_rules": f"emotion space {analysis.space.name}: {analysis.space.rule}; {rules}",
            "validation": "",
            "data_source": "program",
        },
        "sandbox": {},
        "time": 0,
        "duration": duration_s,
    }


JAMS = Format(".jams", render)
