"""The share of a library's recordings that one process or machine does."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import blake2b

from emoseg.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 1) of `count`: which recordings are in it follows from their paths alone."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"I/N"``.

        Raises
        ------
        ConfigError
            It is no such thing, or I is not from 1 to N.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"shard {text!r}: must be I/N with I from 1 to N, such as 2/4")
        return cls(int(match[1]), int(match[2]))

    def __contains__(self, path: str) -> bool:
        digest = blake2b(os.fsencode(path), digest_size=8, person=b"shard").digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
