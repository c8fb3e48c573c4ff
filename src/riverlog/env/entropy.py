"""Randomness as an argument, so that one seed gives one history."""

from __future__ import annotations

import os
import random
from typing import Protocol


class Entropy(Protocol):
    def token_bytes(self, count: int) -> bytes: ...

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        ...


class SystemEntropy:
    """The operating system's."""

    def token_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def below(self, bound: int) -> int:
        return random.SystemRandom().randrange(bound)


class SeededEntropy:
    """The same numbers for the same seed. For tests and the simulator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)
