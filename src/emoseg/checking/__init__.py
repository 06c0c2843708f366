"""Checks of a corpus before it is learnt from: unreadable recordings, faulty labels, duplicate recordings."""
