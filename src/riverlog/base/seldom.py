"""When to say again what was said already: a log line that its cause must not be able to repeat without end.

Pure: the time is an argument. Not here: the line itself.
"""

from __future__ import annotations


class Seldom:
    """One line each `interval_ms`, and how many were left out since the last."""

    __slots__ = ("_interval_ms", "_next_ms", "_suppressed")

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._next_ms: int | None = None
        self._suppressed = 0

    def due(self, now_ms: int) -> int | None:
        """None: not now. Else say it; the number is how often it was not said since it was said last."""
        if self._next_ms is not None and now_ms < self._next_ms:
            self._suppressed += 1
            return None
        self._next_ms = now_ms + self._interval_ms
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
