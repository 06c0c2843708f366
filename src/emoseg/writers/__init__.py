"""A module for each output format."""
