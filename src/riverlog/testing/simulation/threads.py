"""Executors without threads: a job runs whole, in one callback of the loop, at a moment that the seed chooses.

Invariants: at most `threads` jobs of an executor are under way, begun in the order that they came; one thread ends them in
that order, several as the seed says. Between the job and the news of it other callbacks run. Not here: two jobs whose file
operations interleave; the loop and other jobs happen between jobs only, but a crash happens within one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from riverlog.env.entropy import Entropy
from riverlog.testing.simulation.loop import Crashed, Running

T = TypeVar("T")


class SimulatedThreads:
    """One executor of a process."""

    def __init__(self, loop: Running, entropy: Entropy, threads: int, slow_one_in: int = 20) -> None:
        self._loop = loop
        self._entropy = entropy
        self._idle = threads
        self._slow_one_in = slow_one_in
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._closed = False

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        assert not self._closed, "a job for an executor that is closed"
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append((work, future))
        self._begin()
        return future

    def close(self) -> None:
        self._closed = True
        while self._waiting:
            work, future = self._waiting.popleft()
            self._do(work, future)

    def _begin(self) -> None:
        while self._idle and self._waiting:
            self._idle -= 1
            work, future = self._waiting.popleft()
            self._loop.call_later(self._delay_s(), self._do, work, future)

    def _delay_s(self) -> float:
        """Mostly tens of microseconds, at times a slow disk."""
        slow = not self._entropy.below(self._slow_one_in)
        return self._entropy.below(50_000 if slow else 400) / 1_000_000

    def _do(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            self._done(None, future)
            return
        failure: BaseException | None = None
        result: Any = None
        try:
            result = work()
        except Crashed:
            raise
        except BaseException as error:
            failure = error
        if self._closed:
            return
        self._loop.call_later(self._entropy.below(200) / 1_000_000, self._tell, result, failure, future)

    def _tell(self, result: Any, failure: BaseException | None, future: asyncio.Future[Any]) -> None:
        if not future.done():
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(result)
        self._done(result, future)

    def _done(self, result: Any, future: asyncio.Future[Any]) -> None:
        self._idle += 1
        self._begin()
