"""Loaders of corpora, with one module per data set."""
