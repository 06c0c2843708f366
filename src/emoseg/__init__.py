"""emoseg: learn the emotion of music from song-level labels, and tell it over time."""

__version__ = "0.1.0"
