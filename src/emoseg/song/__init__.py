"""The song model: from the probabilities of a song's segments to the calibrated emotion of the song."""
