"""One machine with a local engine that can be killed, and started again on what is left. For tests and golden scripts.

Invariant: a killed engine does nothing any more: its files are dead, its threads have ended, its tasks are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from riverlog.env.entropy import Entropy, SeededEntropy
from riverlog.env.executor import Executor, ThreadExecutor
from riverlog.storage.contract import TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.clock import ManualClock
from riverlog.testing.fakes import CrashableFiles, Unsynced

DIRECTORY = "/data"


class LocalWorld:
    """`topics` are what the catalog would say at the next start."""

    def __init__(self, topics: Sequence[TopicLog], settings: LocalSettings | None = None) -> None:
        self.topics = list(topics)
        self.settings = settings or LocalSettings(sync_threads=2, read_threads=2)
        self.files = CrashableFiles()
        self.clock = ManualClock()
        self.entropy: Entropy = SeededEntropy(1)
        self.engine: LocalEngine | None = None
        self.topics_function: Callable[[], Awaitable[Sequence[TopicLog]]] | None = None  # asked instead of `topics`
        self._executors: list[Executor] = []

    async def start(self) -> LocalEngine:
        assert self.engine is None, "it runs already"

        def executors(name: str, threads: int) -> Executor:
            executor = ThreadExecutor(name, threads)
            self._executors.append(executor)
            return executor

        self.engine = await LocalEngine.open(
            DIRECTORY,
            self.settings,
            files=self.files.session(),
            clock=self.clock,
            entropy=self.entropy,
            executors=executors,
            topics=self.topics_function or self.topics,
        )
        return self.engine

    async def stop(self) -> None:
        """A clean stop."""
        if self.engine is not None:
            await self.engine.close()
        self.engine = None

    async def kill(self, unsynced: Unsynced = Unsynced.LOST, entropy: Entropy | None = None) -> None:
        """The process, and with LOST or TORN the machine, is gone in this very moment."""
        engine, self.engine = self.engine, None
        if engine is not None:
            for partition in engine.partitions.values():
                engine.commit.forget(partition)  # no commit begins any more
        self.files.crash(unsynced, entropy)
        for executor in self._executors:
            executor.close()
        self._executors.clear()
        if engine is not None:
            for _ in range(3):
                await asyncio.sleep(0)  # what the threads have reported is heard, and comes to nothing
            await engine.tasks.close()
