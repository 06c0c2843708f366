"""The version of emoseg, where every module can read it without importing the public interface."""

VERSION = "0.1.0"
