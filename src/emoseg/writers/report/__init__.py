"""The HTML report of one recording, and the short form of it that notebooks show."""
