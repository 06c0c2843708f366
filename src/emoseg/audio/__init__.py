"""From a file or an array to checked mono sound, cut into segments."""
