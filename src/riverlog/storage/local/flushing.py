"""When partitions of durability page-cache are synced though nobody waits: `flush.ms` after the first byte that is not.

Invariant: one task and one timer for all partitions, however many; what became due is given to the group commit once.
Not here: `flush.messages` and the bytes that bound it (`engine.py`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from riverlog.base.units import DAY_MS
from riverlog.storage.local.checkpoints import timer
from riverlog.storage.local.group_commit import Lane
from riverlog.storage.local.partition import LocalPartition

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

flush_ms_max: Final = 366 * DAY_MS  # longer is never


class Flushes:
    """Owned by the engine's upkeep. Topics share few values of `flush.ms`: one queue for each, in which what came first is
    due first."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self._queues: dict[int, dict[LocalPartition, int]] = {}  # by flush.ms: partition -> when it is due
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def later(self, partition: LocalPartition) -> None:
        """The partition has bytes that are not synced. To ask again is cheap."""
        flush_ms = partition.config.flush_ms
        if flush_ms >= flush_ms_max:
            return
        queue = self._queues.setdefault(flush_ms, {})
        if partition in queue:
            return
        queue[partition] = self.engine.clock.monotonic_ms() + flush_ms
        if len(queue) == 1:
            self._wanted.set()

    def forget(self, partition: LocalPartition) -> None:
        for queue in self._queues.values():
            queue.pop(partition, None)

    async def run(self) -> None:
        clock = self.engine.clock
        while True:
            due_ms = min((next(iter(queue.values())) for queue in self._queues.values() if queue), default=None)
            if due_ms is None:
                await self._wanted.wait()
            elif (wait_ms := due_ms - clock.monotonic_ms()) > 0:
                await timer(clock, wait_ms, self._wanted)
            self._wanted.clear()
            self.flush(clock.monotonic_ms())

    def flush(self, now_ms: int) -> None:
        """What is due."""
        for flush_ms, queue in list(self._queues.items()):
            while queue:
                partition, due_ms = next(iter(queue.items()))
                if due_ms > now_ms:
                    break
                del queue[partition]
                if partition.unsynced_bytes and partition.failure is None:
                    self.engine.commit.dirty(partition, Lane.BULK)
            if not queue:
                del self._queues[flush_ms]
