"""The audit of a corpus: which labels are wrong, how sure that is, why, and how many there are."""
