"""Parquet: a row a segment, the same columns for one recording and for a whole library in one file.

Columns
-------
path, duration_s
    The recording.
segment, start_s, end_s, label, sound, span
    Number and times of the segment, its own answer, what it sounds like, and the smoothed answer at its middle.
p_<label>, valence, arousal, valence_sd, arousal_sd
    As in the JSON schema; null where the sound is not music or the space has no such axis.
song_label, song_confidence, song_p_<label>, song_valence, song_arousal, song_valence_sd, song_arousal_sd
    The recording as a whole, repeated in each of its rows (which costs next to nothing in this format).
model_name, model_version
    What it was analysed with.

The file's metadata holds, under ``emoseg``, JSON with the version of this table, the emotion space, and the rules.
Numbers are double precision and not rounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from emoseg.emotion import EmotionSpace
from emoseg.errors import EmosegError
from emoseg.system.files import written_whole
from emoseg.system.names import valid_text
from emoseg.types import Analysis, AnalysisFailure
from emoseg.writers.json_lines import AXES

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "emoseg.segments/1"
_GROUP_ROWS = 1 << 16
_TEXTS = ("path", "label", "sound", "span", "song_label", "model_name", "model_version")


def segment_schema(space: EmotionSpace, rules: dict[str, Any] | None = None) -> pa.Schema:
    """Return the columns for an emotion space.

    Parameters
    ----------
    space : EmotionSpace
    rules : dict, optional
        How the answers were made (`Analysis.rules`), kept in the metadata.
    """
    import pyarrow as pa

    text, number = pa.dictionary(pa.int32(), pa.string()), pa.float64()
    columns = ["path", "duration_s", "segment", "start_s", "end_s", "label", "sound", "span"]
    columns += [*(f"p_{label}" for label in space.labels), *AXES, "song_label", "song_confidence"]
    columns += [*(f"song_p_{label}" for label in space.labels), *(f"song_{axis}" for axis in AXES)]
    columns += ["model_name", "model_version"]
    kinds = {**dict.fromkeys(_TEXTS, text), "segment": pa.int32()}
    about = {"schema": SCHEMA, "space": space.to_json(), "rules": rules or {}}
    fields = [pa.field(name, kinds.get(name, number)) for name in columns]
    return pa.schema(fields, metadata={b"emoseg": json.dumps(about, sort_keys=True).encode("utf-8", "replace")})


def segment_table(analyses: Iterable[Analysis], schema: pa.Schema) -> pa.Table:
    """Return the segments of analyses of one emotion space as a table with the columns of `segment_schema`.

    Raises
    ------
    EmosegError
        A number is not finite, or a recording was analysed in another emotion space.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for analysis in analyses:
        for row in _rows(analysis):
            if len(row) != len(columns) or row.keys() != columns.keys():
                raise EmosegError(f"{analysis.path}: has another emotion space than the rest of the table")
            for name, value in row.items():
                columns[name].append(value)
    return pa.table({name: pa.array(columns[name], type=schema.field(name).type) for name in columns}, schema=schema)


class ParquetCollection:
    """Writes many recordings into one file, which appears under its name when the block ends, with an error too.

    Memory holds at most 65,536 rows. All recordings must have been analysed in one emotion space.

    Parameters
    ----------
    file : Path
        Made with its folders, or replaced.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._waiting: list[Analysis] = []
        self._rows = 0
        self._schema: Any = None
        self._writer: Any = None
        self._failed: EmosegError | None = None  # a file with a part that was not written must not appear
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def add(self, result: Analysis | AnalysisFailure) -> None:
        """Take the segments of a recording; a failure has none.

        Raises
        ------
        EmosegError
            A number is not finite, the emotion space is another one, or the disk is full.
        """
        if isinstance(result, AnalysisFailure):
            return
        self._waiting.append(result)
        self._rows += len(result.segments)
        if self._rows >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow.parquet as pq

        if not self._waiting:
            return
        waiting, self._waiting, self._rows = self._waiting, [], 0
        try:
            if self._writer is None:
                self._schema = segment_schema(waiting[0].space, waiting[0].rules)
                self.file.parent.mkdir(parents=True, exist_ok=True)
                temporary = self._closing.enter_context(written_whole(self.file))
                self._writer = pq.ParquetWriter(temporary, self._schema, compression="zstd")
            self._writer.write_table(segment_table(waiting, self._schema))
        except OSError as error:
            self._failed = self._unwritten(error)
            raise self._failed from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was analysed before an error or an interrupt is worth as much as without one.
        with self._closing:
            try:
                self._flush()
                if self._writer is not None:
                    self._writer.close()
            except OSError as failed:
                raise self._unwritten(failed) from failed
            if self._failed is not None:
                raise self._failed

    def _unwritten(self, error: OSError) -> EmosegError:
        return EmosegError(f"{self.file}: cannot be written: {error.strerror or error}")


def _rows(analysis: Analysis) -> Iterable[dict[str, Any]]:
    labels, song = analysis.space.labels, analysis.song
    whole = {
        "song_label": song.label,
        "song_confidence": _finite(song.confidence, analysis),
        **_probabilities("song_p_", labels, song.probabilities, analysis),
        **{f"song_{axis}": _finite(getattr(song, axis), analysis) for axis in AXES},
        "model_name": analysis.model_name,
        "model_version": analysis.model_version,
    }
    path = valid_text(analysis.path)
    for i, (segment, span) in enumerate(zip(analysis.segments, analysis.spans_of_segments(), strict=True)):
        yield {
            "path": path,
            "duration_s": _finite(analysis.duration_s, analysis),
            "segment": i,
            "start_s": _finite(segment.start_s, analysis),
            "end_s": _finite(segment.end_s, analysis),
            "label": segment.label,
            "sound": segment.sound,
            "span": span.label,
            **_probabilities("p_", labels, segment.probabilities, analysis),
            **{axis: _finite(getattr(segment, axis), analysis) for axis in AXES},
            **whole,
        }


def _probabilities(
    prefix: str, labels: tuple[str, ...], values: tuple[float, ...], analysis: Analysis
) -> dict[str, float | None]:
    known = values or (None,) * len(labels)
    return {prefix + label: _finite(p, analysis) for label, p in zip(labels, known, strict=True)}


def _finite(value: float | None, analysis: Analysis) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise EmosegError(f"{analysis.path}: the analysis holds {value}, but results must be finite numbers")
    return float(value) + 0.0
