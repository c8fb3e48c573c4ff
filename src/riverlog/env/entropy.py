"""Randomness as an argument, so that one seed gives one history."""

from __future__ import annotations

import os
import random
from threading import Lock
from typing import Final, Protocol


class Entropy(Protocol):
    def token_bytes(self, count: int) -> bytes: ...

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        ...


pooled_bytes: Final = 4_096


class SystemEntropy:
    """The operating system's, fetched in advance, because a call to the kernel is a chance for other threads to take the
    interpreter's lock. Each byte is given once, on whatever thread. Not for a process that forks: both would give the same."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pool = b""
        self._position = 0

    def token_bytes(self, count: int) -> bytes:
        if count > pooled_bytes:
            return os.urandom(count)
        with self._lock:
            begin = self._position
            if begin + count > len(self._pool):
                self._pool, begin = os.urandom(pooled_bytes), 0
            self._position = begin + count
            return self._pool[begin : begin + count]

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
