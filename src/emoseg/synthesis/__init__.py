"""The synthesised corpus: songs composed and rendered with a known emotion at every moment."""
