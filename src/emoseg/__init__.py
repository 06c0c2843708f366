"""emoseg learns the emotion of music from song-level labels, and finds it in recordings over time.

Analysis in four lines::

    import emoseg

    analysis = emoseg.analyze("song.mp3")  # or bytes, a file object, or an array with sample_rate_hz=44100
    print(analysis.song.label, analysis.song.probability("Q1"), analysis.spans)

`analyze_many` takes many recordings, `Analyzer` keeps a model loaded, `train` and `evaluate` learn from a corpus that
`load_corpus` reads, `audit` finds its wrong labels, and `EmotionClassifier` is a scikit-learn estimator over lists of
files. ``docs/python.md`` shows all of them.

Names are imported on first use, so that ``import emoseg`` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from emoseg.version import VERSION

if TYPE_CHECKING:
    from emoseg.analysis.analyzer import Analyzer, analyze
    from emoseg.analysis.many import analyze_many
    from emoseg.analysis.model_folder import load_model
    from emoseg.auditing.audit import audit
    from emoseg.config import TrainConfig
    from emoseg.corpora import load_corpus
    from emoseg.errors import (
        AudioError,
        ConfigError,
        CorpusError,
        EmosegError,
        EmosegWarning,
        MissingExtraError,
        ModelError,
    )
    from emoseg.estimator import EmotionClassifier
    from emoseg.evaluation import Protocol, evaluate
    from emoseg.training import train
    from emoseg.types import Analysis, AnalysisFailure, Recording

__version__ = VERSION

_HOMES = {
    "Analysis": "types",
    "AnalysisFailure": "types",
    "Analyzer": "analysis.analyzer",
    "AudioError": "errors",
    "ConfigError": "errors",
    "CorpusError": "errors",
    "EmosegError": "errors",
    "EmosegWarning": "errors",
    "EmotionClassifier": "estimator",
    "MissingExtraError": "errors",
    "ModelError": "errors",
    "Protocol": "evaluation",
    "Recording": "types",
    "TrainConfig": "config",
    "analyze": "analysis.analyzer",
    "analyze_many": "analysis.many",
    "audit": "auditing.audit",
    "evaluate": "evaluation",
    "load_corpus": "corpora",
    "load_model": "analysis.model_folder",
    "train": "training",
}
"""The module of each public name, below emoseg."""

__all__ = [
    "Analysis",
    "AnalysisFailure",
    "Analyzer",
    "AudioError",
    "ConfigError",
    "CorpusError",
    "EmosegError",
    "EmosegWarning",
    "EmotionClassifier",
    "MissingExtraError",
    "ModelError",
    "Protocol",
    "Recording",
    "TrainConfig",
    "__version__",
    "analyze",
    "analyze_many",
    "audit",
    "evaluate",
    "load_corpus",
    "load_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
