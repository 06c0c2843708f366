"""emoseg: learn the emotion of music from song-level labels, and tell it over time.

The library in five lines::

    import emoseg

    analyzer = emoseg.Analyzer()  # the bundled model, or a folder: Analyzer("model")
    analysis = analyzer.analyze("song.mp3")  # or an array: analyze(samples, sample_rate_hz=44100)
    print(analysis.song.label, analysis.song.confidence, analysis.spans)

Names are imported on first use, so that ``import emoseg`` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emoseg.analysis.analyzer import Analyzer
    from emoseg.analysis.model_folder import load_model
    from emoseg.errors import AudioError, EmosegError
    from emoseg.types import Analysis, Recording

__version__ = "0.1.0"
__all__ = ["Analysis", "Analyzer", "AudioError", "EmosegError", "Recording", "__version__", "load_model"]

_HOMES = {
    "Analysis": "types",
    "Analyzer": "analysis.analyzer",
    "AudioError": "errors",
    "EmosegError": "errors",
    "Recording": "types",
    "load_model": "analysis.model_folder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
