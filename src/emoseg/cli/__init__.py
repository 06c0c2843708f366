"""The command line: one module per command or group of commands, and `app`, which runs them."""
