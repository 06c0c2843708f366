"""Check a corpus before it is learnt from: files that cannot be read, damaged labels, near-duplicate recordings."""
