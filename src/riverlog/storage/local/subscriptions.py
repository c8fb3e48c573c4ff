"""Who is woken when a high watermark moves. Invariant: one wake-up a subscriber and turn of the loop, however many
partitions moved; none after `close`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from riverlog.storage.local.partition import LocalPartition


class Subscribed:
    """One subscription to some partitions."""

    __slots__ = ("_partitions", "wake")

    def __init__(self, partitions: Sequence[LocalPartition], wake: Callable[[], None]) -> None:
        self._partitions = partitions
        self.wake: Callable[[], None] | None = wake
        for partition in partitions:
            if partition.subscribers is None:
                partition.subscribers = {}
            partition.subscribers[self] = None

    def close(self) -> None:
        self.wake = None
        for partition in self._partitions:
            if partition.subscribers is not None:
                partition.subscribers.pop(self, None)
                if not partition.subscribers:
                    partition.subscribers = None
        self._partitions = ()


class Alarm:
    """Collects who has to be woken, and wakes them in the next turn of the loop, outside of whoever moved the watermark."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[Subscribed, None] = {}

    def moved(self, partition: LocalPartition) -> None:
        if partition.subscribers:
            if not self._due:
                self._loop.call_soon(self._ring)
            self._due.update(partition.subscribers)

    def _ring(self) -> None:
        due, self._due = self._due, {}
        for subscribed in due:
            if (wake := subscribed.wake) is not None:
                wake()
