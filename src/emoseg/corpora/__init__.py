"""Labelled songs: one module a data set behind one registry."""
