"""One timer for many: a heap of deadlines and one sleeping task. What is due is told, in order of time.

Invariant: while the heap is not empty, a task sleeps until its earliest deadline. Each has at most one deadline that
counts (its `deadline_ms`); entries of the heap that say another are stale and passed over. Where the process stood still
(SIGSTOP, a machine that sleeps), what came meanwhile and lies in the sockets is heard before anybody's time is over.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

from riverlog.env.clock import Clock
from riverlog.env.tasks import Tasks


class Timed(Protocol):
    deadline_ms: int | None  # monotonic


T = TypeVar("T", bound=Timed)
log = logging.getLogger(__name__)

standstill_ms_min: Final = 1_000  # so late a timer rings only where nothing ran
turns_to_hear: Final = 5  # of the loop: to read what has come, begin its requests, and do them


class Alarm(Generic[T]):
    def __init__(self, clock: Clock, tasks: Tasks, due: Callable[[T], None]) -> None:
        """`due` is called on the loop, and may schedule. What it raises is logged and harms no other."""
        self._clock = clock
        self._tasks = tasks
        self._due = due
        self._heap: list[tuple[int, int, T]] = []
        self._order = count()
        self._task: asyncio.Task[None] | None = None
        self._task_ms: int | None = None
        self._ringing = False

    def schedule(self, timed: T, deadline_ms: int | None) -> None:
        """`due(timed)` at that monotonic time, instead of at the one said before. None: not at all."""
        timed.deadline_ms = deadline_ms
        if deadline_ms is None:
            return
        heapq.heappush(self._heap, (deadline_ms, next(self._order), timed))
        if not self._ringing and (self._task_ms is None or deadline_ms < self._task_ms):
            self._sleep_until(deadline_ms)

    def _sleep_until(self, deadline_ms: int) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task_ms = deadline_ms
        self._task = self._tasks.start(self._ring_at(deadline_ms), name="timer")

    async def _ring_at(self, deadline_ms: int) -> None:
        while (wait_ms := deadline_ms - self._clock.monotonic_ms()) > 0:
            await self._clock.sleep(wait_ms / 1000)
        if -wait_ms >= standstill_ms_min:
            for _ in range(turns_to_hear):
                await asyncio.sleep(0)  # noqa: TID251  # takes no time: a turn of the loop
        self._task = self._task_ms = None
        self._ringing = True
        now_ms = self._clock.monotonic_ms()
        while self._heap and self._heap[0][0] <= now_ms:
            due_ms, _, timed = heapq.heappop(self._heap)
            if timed.deadline_ms == due_ms:
                timed.deadline_ms = None
                try:
                    self._due(timed)
                except Exception:
                    log.exception("what was due failed; the others have their time all the same")
        self._ringing = False
        if self._heap:
            self._sleep_until(self._heap[0][0])
