"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from riverlog.env.clock import Now


class ManualClock:
    """Starts at a fixed moment. `advance` wakes the sleepers that are due, in order of their times."""

    def __init__(self, wall_ms: int = 1_700_000_000_000, monotonic_ms: int = 1_000_000) -> None:
        self.wall_ms = wall_ms
        self.steady_ms = monotonic_ms
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    @property
    def sleeping(self) -> int:
        """How many wait for this clock."""
        return len(self._sleepers)

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.steady_ms

    def now(self) -> Now:
        return Now(self.wall_ms, self.steady_ms)

    def advance(self, milliseconds: int) -> None:
        self.wall_ms += milliseconds
        self.steady_ms += milliseconds
        while self._sleepers and self._sleepers[0][0] <= self.steady_ms:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.steady_ms + round(seconds * 1000), next(self._order), waiter))
        await waiter
