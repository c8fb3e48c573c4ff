"""Threads as an argument: blocking work leaves the loop through an `Executor`, which the simulator replaces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Starts `work` on a thread; the future is of the running loop. Work of one executor with one thread runs in order."""
        ...

    def close(self) -> None:
        """Waits for what runs."""
        ...


class ThreadExecutor:
    """A fixed number of named threads, started when first needed."""

    def __init__(self, name: str, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"riverlog-{name}")

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
