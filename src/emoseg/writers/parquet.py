"""Parquet: one row per segment, the same columns for one recording and for a whole library in one file.

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
    The model that analysed it.

The file's metadata holds, under ``emoseg``, JSON with the version of this table, the emotion space, and the rules.
Numbers are double precision and not rounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoseg.emotion import EmotionSpace
from emoseg.errors import EmosegError
from emoseg.system.files import written_whole
from emoseg.system.names import valid_text
from emoseg.types import AXES, Analysis, AnalysisFailure
from emoseg.writers.formats import Collection, CollectionFormat
from emoseg.writers.numbers import finite, finite_or_none

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


class ParquetCollection(Collection):
    """Writes many recordings into one file, which appears under its name when the block ends, with an error too.

    Memory holds at most 65,536 rows. All recordings must have been analysed in one emotion space.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._waiting: list[Analysis] = []
        self._rows = 0
        self._schema: Any = None
        self._writer: Any = None
        self._failed: EmosegError | None = None  # a file with a part that was not written must not appear
        self._closing = ExitStack()

    def add(self, result: Analysis | AnalysisFailure) -> None:
        """Add the segments of a recording; a failure has none.

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
        if self._writer is None:
            self._schema = segment_schema(waiting[0].space, waiting[0].rules)
        table = segment_table(waiting, self._schema)
        try:
            with self.writing():
                if self._writer is None:
                    temporary = self._closing.enter_context(written_whole(self.file))
                    self._writer = pq.ParquetWriter(temporary, self._schema, compression="zstd")
                self._writer.write_table(table)
        except EmosegError as error:
            self._failed = error
            raise

    def close(self) -> None:
        """Write the rows that wait, and give the file its name."""
        with self._closing:
            self._flush()
            if self._writer is not None:
                with self.writing():
                    self._writer.close()
            if self._failed is not None:
                raise self._failed


def _rows(analysis: Analysis) -> Iterable[dict[str, Any]]:
    labels, song = analysis.space.labels, analysis.song
    whole = {
        "song_label": song.label,
        "song_confidence": finite(song.confidence, analysis.path),
        **_probabilities("song_p_", labels, song.probabilities, analysis),
        **{f"song_{axis}": finite_or_none(getattr(song, axis), analysis.path) for axis in AXES},
        "model_name": analysis.model_name,
        "model_version": analysis.model_version,
    }
    path = valid_text(analysis.path)
    for i, (segment, span) in enumerate(zip(analysis.segments, analysis.spans_of_segments(), strict=True)):
        yield {
            "path": path,
            "duration_s": finite(analysis.duration_s, analysis.path),
            "segment": i,
            "start_s": finite(segment.start_s, analysis.path),
            "end_s": finite(segment.end_s, analysis.path),
            "label": segment.label,
            "sound": segment.sound,
            "span": span.label,
            **_probabilities("p_", labels, segment.probabilities, analysis),
            **{axis: finite_or_none(getattr(segment, axis), analysis.path) for axis in AXES},
            **whole,
        }


def _probabilities(
    prefix: str, labels: tuple[str, ...], values: tuple[float, ...], analysis: Analysis
) -> dict[str, float | None]:
    known = values or (None,) * len(labels)
    return {prefix + label: finite_or_none(p, analysis.path) for label, p in zip(labels, known, strict=True)}


PARQUET = CollectionFormat("emotions.parquet", ParquetCollection)
