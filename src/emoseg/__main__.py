"""``python -m emoseg``: the same as the command ``emoseg``."""

from __future__ import annotations

from emoseg.cli.app import main

if __name__ == "__main__":
    main()
