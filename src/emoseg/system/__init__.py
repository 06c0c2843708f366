"""What emoseg needs from the operating system: files, processes, names and the terminal."""
