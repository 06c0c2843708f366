"""Segments to features, in numpy and scipy alone, so that training and analysis cannot drift apart."""
