"""Learning from inherited labels; the only package that uses PyTorch."""
