"""emoseg's own method, the default."""
