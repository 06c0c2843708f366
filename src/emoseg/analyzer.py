"""The one inference path: a recording in, its emotion over time out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from emoseg.audio import SegmentReader
from emoseg.errors import ConfigError
from emoseg.frontends import build_frontend
from emoseg.model import ModelFolder, load_model
from emoseg.types import Analysis, EmotionSpace, Float64, Recording, SegmentEmotion, SongEmotion, Span


class Analyzer:
    """Analyses recordings with one model.

    Parameters
    ----------
    model : ModelFolder or path
        A model folder, loaded or not.
    hop_s : float, optional
        Distance between segments in seconds; default the model's own.

    Examples
    --------
    >>> analysis = Analyzer("model").analyze("song.mp3")  # doctest: +SKIP
    >>> analysis.song.label  # doctest: +SKIP
    'Q1'
    """

    def __init__(self, model: ModelFolder | str | os.PathLike[str], *, hop_s: float | None = None) -> None:
        self.model = model if isinstance(model, ModelFolder) else load_model(Path(model))
        config = self.model.config
        if hop_s is not None and not 0.05 < hop_s <= 60:
            raise ConfigError(f"hop {hop_s} s: must be above 0.05 and at most 60 s")
        self.segment = config.segment if hop_s is None else config.segment.model_copy(update={"hop_s": hop_s})
        self.frontends = [build_frontend(frontend, config.segment) for frontend in config.frontends]

    def analyze(self, source: str | os.PathLike[str] | Recording) -> Analysis:
        """Return the emotion of a recording, in segments and as a whole.

        Parameters
        ----------
        source : path or Recording
            A file, or samples in memory. Long files are read in blocks.

        Raises
        ------
        AudioError
            The recording cannot be decoded or is not usable; the message says why.
        """
        reader = SegmentReader(source, segment=self.segment)
        starts, ends, parts = [], [], []
        for batch in reader:
            starts.append(batch.start_s)
            ends.append(batch.end_s)
            features = {frontend.name: frontend(batch.samples) for frontend in self.frontends}
            parts.append(self.model.segment_probabilities(features))
        probabilities = np.concatenate(parts)
        segments = _segments(self.model.space, np.concatenate(starts), np.concatenate(ends), probabilities)
        return Analysis(
            path=source.path if isinstance(source, Recording) else os.fspath(source),
            duration_s=reader.duration_s,
            model_name=self.model.config.name,
            model_version=self.model.config.version,
            space=self.model.space,
            song=_song(self.model.space, self.model.song.predict(probabilities)),
            segments=segments,
            spans=join_spans(segments),
            peaks=reader.peaks,
        )


def _derived(space: EmotionSpace, probabilities: Float64, axis: str) -> float | None:
    value = space.derived(probabilities, axis)
    return None if value is None else float(value)


def _segments(space: EmotionSpace, starts: Float64, ends: Float64, table: Float64) -> tuple[SegmentEmotion, ...]:
    return tuple(
        SegmentEmotion(
            float(start),
            float(end),
            space.labels[int(p.argmax())],
            tuple(p.tolist()),
            _derived(space, p, "valence"),
            _derived(space, p, "arousal"),
        )
        for start, end, p in zip(starts, ends, table, strict=True)
    )


def _song(space: EmotionSpace, p: Float64) -> SongEmotion:
    best = int(p.argmax())
    return SongEmotion(
        space.labels[best],
        tuple(p.tolist()),
        float(p[best]),
        _derived(space, p, "valence"),
        _derived(space, p, "arousal"),
    )


def join_spans(segments: tuple[SegmentEmotion, ...]) -> tuple[Span, ...]:
    """Join neighbouring segments with the same label.

    Where segments overlap, each holds from its start to the start of the next.
    """
    spans: list[Span] = []
    for i, segment in enumerate(segments):
        end = min(segment.end_s, segments[i + 1].start_s) if i + 1 < len(segments) else segment.end_s
        if spans and spans[-1].label == segment.label:
            spans[-1] = Span(spans[-1].start_s, end, segment.label)
        else:
            spans.append(Span(segment.start_s, end, segment.label))
    return tuple(spans)
