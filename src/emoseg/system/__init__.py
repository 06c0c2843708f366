"""What emoseg needs from the operating system: files, processes, the terminal."""
