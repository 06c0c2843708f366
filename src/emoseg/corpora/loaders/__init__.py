"""The loaders, one module per data set."""
