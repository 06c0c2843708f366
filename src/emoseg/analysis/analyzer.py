"""Analysis of one recording by one model. Every command and every function that analyses uses this code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emoseg.analysis.model_folder import BUNDLED, DEFAULT_MODEL, ModelFolder, load_model
from emoseg.analysis.timeline import course, join_spans
from emoseg.audio.reader import SegmentReader
from emoseg.audio.segments import Excerpt
from emoseg.audio.sound_kind import recording_kind, sound_evidence, sound_kinds
from emoseg.audio.sources import Source, opened, source_name
from emoseg.config import HOP_ABOVE_S, HOP_MOST_S
from emoseg.emotion import EmotionSpace
from emoseg.errors import AudioError, ConfigError
from emoseg.frontends import build_frontend, compute_features
from emoseg.song.scoring import score_song
from emoseg.types import UNSURE, Analysis, Float32, Float64, SegmentEmotion, SongEmotion


class Analyzer:
    """Analyses recordings with one model.

    An analyzer may be used from several threads at once. It can be pickled: the copy loads the model again from the
    same folder, which must still be there. A bundled model is found wherever emoseg is installed.

    Parameters
    ----------
    model : ModelFolder or path or str
        A model folder, loaded or not, or the name of a bundled model; by default ``"4q"``.
    hop_s : float, optional
        Distance between the starts of neighbouring segments in seconds, above 0.05 and at most 60; by default that of
        the model. A smaller distance locates changes more precisely and takes longer.

    Raises
    ------
    ModelError
        There is no such model, or its folder is incomplete, was altered, or needs another version of emoseg.
    ConfigError
        `model` has another type, or `hop_s` is out of range.

    Examples
    --------
    >>> analyzer = Analyzer()  # doctest: +SKIP
    >>> analyzer.analyze("song.mp3").song.label  # doctest: +SKIP
    'Q1'
    >>> analyzer.analyze(samples, sample_rate_hz=44100).spans[0]  # doctest: +SKIP
    Span(start_s=0.0, end_s=12.0, label='Q1')
    """

    def __init__(
        self, model: ModelFolder | str | os.PathLike[str] = DEFAULT_MODEL, *, hop_s: float | None = None
    ) -> None:
        _check_settings(model, hop_s)
        self.model = model if isinstance(model, ModelFolder) else load_model(Path(model))
        self.hop_s = hop_s
        config = self.model.config
        self.segment = config.segment if hop_s is None else config.segment.model_copy(update={"hop_s": hop_s})
        self.frontends = [build_frontend(frontend, config.segment) for frontend in config.frontends]

    def __repr__(self) -> str:
        hop = "" if self.hop_s is None else f", hop_s={self.hop_s:g}"
        return f"Analyzer({self._model_name()!r}{hop})"

    def __getstate__(self) -> dict[str, Any]:
        bundled = self.model.path.parent == BUNDLED
        return {
            "model": None if bundled else self.model.path.absolute(),
            "name": self._model_name(),
            "hop_s": self.hop_s,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"] or BUNDLED / state["name"], hop_s=state["hop_s"])  # type: ignore[misc]

    def _model_name(self) -> str:
        return self.model.path.name if self.model.path.parent == BUNDLED else str(self.model.path)

    def analyze(
        self,
        source: Source,
        *,
        sample_rate_hz: int | None = None,
        offset_s: float = 0.0,
        duration_s: float | None = None,
        batch: int = 64,
        on_progress: Callable[[float], object] | None = None,
    ) -> Analysis:
        """Return the emotion of a recording, per segment and as a whole.

        Parameters
        ----------
        source : path, binary file object, bytes, array or Recording
            A sound file, its content, or samples. Samples have shape (n,), or (n, C) with C channels, which are
            averaged. Floating-point samples are nominally in [-1, 1]; integer samples are divided by the full scale of
            their type. Lists of floats, and tensors on the CPU, count as arrays. Long files are read in blocks.
        sample_rate_hz : int, optional
            Sample rate of an array; required for arrays, and not allowed for other sources.
        offset_s : float
            Where the analysis begins, in seconds from the start of the recording, at least 0.
        duration_s : float, optional
            Seconds to analyse, above 0; by default all up to the end. Sound after them is not decoded.
        batch : int
            Number of segments computed at a time, at least 1. The result does not depend on it.
        on_progress : callable, optional
            Called after each batch with the seconds of sound in that batch.

        Returns
        -------
        Analysis
            Its `path` is the path, the name of the file object, ``"<bytes>"``, or ``"<array>"``. An excerpt is analysed
            as if it were a whole recording: its times count from `offset_s`, and its `path` ends with the excerpt's
            start and end in seconds, such as ``"song.mp3#t=30,60"``.

        Raises
        ------
        AudioError
            The recording cannot be decoded or used; `kind` and the message say why.
        ConfigError
            The source has another type, an array comes without a sample rate, another source comes with one, or
            `offset_s`, `duration_s` or `batch` is out of range.
        ModelError
            The segment model cannot be run.
        """
        if not isinstance(batch, int) or batch < 1:
            raise ConfigError(f"batch {batch!r}: must be a whole number of segments, at least 1")
        excerpt = Excerpt(offset_s, duration_s)
        with opened(source, sample_rate_hz) as recording:
            reader = SegmentReader(recording, segment=self.segment, batch=batch, excerpt=excerpt)
            return self._analyze(reader, source_name(source) + excerpt.fragment, on_progress)

    def _analyze(self, reader: SegmentReader, path: str, on_progress: Callable[[float], object] | None) -> Analysis:
        config, space = self.model.config.timeline, self.model.space
        starts, ends, parts, evidence = [], [], [], []
        vectors: dict[str, list[Float32]] = {}  # feature vectors of all segments, which the song model summarises
        for part in reader:
            starts.append(part.start_s)
            ends.append(part.end_s)
            if config.sounds:
                evidence.append(sound_evidence(part.samples, self.segment.sample_rate_hz))
            features = self._features(part.samples, reader.path)
            parts.append(self.model.segment_probabilities(features))
            for name, table in features.items() if self.model.song.base is not None else ():
                if table.ndim == 2:
                    vectors.setdefault(name, []).append(table)
            if on_progress:
                on_progress(len(part.start_s) * self.segment.hop_s)
        start_s, end_s, probabilities = np.concatenate(starts), np.concatenate(ends), np.concatenate(parts)
        sounds: Sequence[str] = ("music",) * len(start_s)
        if evidence:
            sounds = sound_kinds(np.concatenate(evidence), start_s, labels=space.labels)
        unsure_below = config.unsure_threshold(len(space.labels))
        answers = course(probabilities, sounds, labels=space.labels, segment=self.segment, config=config)
        return Analysis(
            path=path,
            duration_s=reader.duration_s,
            model_name=self.model.config.name,
            model_version=self.model.config.version,
            space=space,
            song=self._song(probabilities, vectors, sounds, unsure_below),
            segments=tuple(
                _segment(space, float(start), float(end), p, sound, unsure_below)
                for start, end, p, sound in zip(start_s, end_s, probabilities, sounds, strict=True)
            ),
            spans=join_spans(start_s, end_s, answers),
            peaks=reader.peaks,
            unsure_below=unsure_below,
            mean_span_s=config.mean_span_s,
        )

    def _features(self, samples: Float32, path: str) -> dict[str, Float32]:
        """Return the features of segments by the name of the frontend, each of shape (B, ...).

        Silent segments are all equal and may last for hours, so their features are computed once.
        """
        sounding = samples.any(axis=1)
        distinct = np.concatenate([np.flatnonzero(sounding), np.flatnonzero(~sounding)[:1]])
        place = np.where(sounding, np.cumsum(sounding) - 1, len(distinct) - 1)
        try:
            features = compute_features(self.frontends, samples[distinct])
        except AudioError as error:
            raise AudioError(f"{path}: {error}", kind=error.kind) from error
        return {name: table[place] for name, table in features.items()}

    def _song(
        self,
        probabilities: Float64,
        vectors: Mapping[str, Sequence[Float32]],
        sounds: Sequence[str],
        unsure_below: float,
    ) -> SongEmotion:
        space, kind = self.model.space, recording_kind(sounds)
        if kind != "music":
            return SongEmotion(kind, (), 0.0, None, None, labels=space.labels)
        music = np.array([sound == "music" for sound in sounds])
        features = {name: np.concatenate(tables)[music] for name, tables in vectors.items()}
        p = score_song(self.model.song, probabilities[music], features)
        return SongEmotion(
            _answer(space, p, unsure_below),
            tuple(p.tolist()),
            float(p.max()),
            _number(space.derived(p, "valence")),
            _number(space.derived(p, "arousal")),
            _number(space.spread(p, "valence")),
            _number(space.spread(p, "arousal")),
            labels=space.labels,
        )


def analyze(
    source: Source,
    *,
    model: ModelFolder | str | os.PathLike[str] = DEFAULT_MODEL,
    hop_s: float | None = None,
    sample_rate_hz: int | None = None,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    on_progress: Callable[[float], object] | None = None,
) -> Analysis:
    """Return the emotion of one recording over time and as a whole.

    Each call loads the model again. For several recordings use `analyze_many`, or create one `Analyzer`. Parameters and
    errors are those of `Analyzer` and `Analyzer.analyze`.

    Examples
    --------
    >>> analyze("song.mp3").song.label  # doctest: +SKIP
    'Q1'
    """
    return Analyzer(model, hop_s=hop_s).analyze(
        source, sample_rate_hz=sample_rate_hz, offset_s=offset_s, duration_s=duration_s, on_progress=on_progress
    )


def _check_settings(model: object, hop_s: object) -> None:
    if not isinstance(model, ModelFolder | str | os.PathLike):
        raise ConfigError(f"model {model!r}: must be a model folder or the name of a bundled model")
    if hop_s is not None and not (
        isinstance(hop_s, int | float | np.integer | np.floating) and HOP_ABOVE_S < hop_s <= HOP_MOST_S
    ):
        raise ConfigError(f"hop {hop_s!r} s: must be above {HOP_ABOVE_S:g} and at most {HOP_MOST_S:g} s")


def _answer(space: EmotionSpace, p: Float64, unsure_below: float) -> str:
    best = int(p.argmax())
    return UNSURE if p[best] < unsure_below and UNSURE not in space.labels else space.labels[best]


def _number(value: Float64 | None) -> float | None:
    return None if value is None else float(value)


def _segment(
    space: EmotionSpace, start_s: float, end_s: float, p: Float64, sound: str, unsure_below: float
) -> SegmentEmotion:
    if sound != "music":
        return SegmentEmotion(start_s, end_s, sound, (), None, None, sound=sound, labels=space.labels)
    return SegmentEmotion(
        start_s,
        end_s,
        _answer(space, p, unsure_below),
        tuple(p.tolist()),
        _number(space.derived(p, "valence")),
        _number(space.derived(p, "arousal")),
        _number(space.spread(p, "valence")),
        _number(space.spread(p, "arousal")),
        labels=space.labels,
    )
