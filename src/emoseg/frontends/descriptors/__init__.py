"""The frontend of 608 musical descriptors, one module per family."""
