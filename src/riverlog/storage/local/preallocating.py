"""`preallocate`: room on the disk for a whole segment when it begins, given back when it is sealed and at a clean stop.

Invariants: a file's size is what was written, with or without this, so recovery, verify and reads know nothing of it;
only a segment that nobody writes any more is trimmed, and none while a partition is being cut back. One task, and a
thread does the work. Where the disk has no room, or the system cannot reserve, the segment goes on without.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from riverlog.base.seldom import Seldom
from riverlog.base.units import MINUTE_MS
from riverlog.env.files import File, Files
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)


class Preallocation:
    """Owned by the engine's upkeep."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self._begun: dict[Segment, int] = {}  # segment -> bytes to reserve
        self._sealed: dict[Segment, None] = {}
        self._wanted = asyncio.Event()
        self.pending = 0  # jobs on the thread
        self._complaints = Seldom(MINUTE_MS)

    def begun(self, partition: LocalPartition, segment: Segment) -> None:
        if partition.config.preallocate:
            self._begun[segment] = partition.segment_bytes
            self._wanted.set()

    def sealed(self, partition: LocalPartition, segment: Segment) -> None:
        """Of one that a process before this one began it is not known whether room was reserved: it is trimmed."""
        if self._begun.pop(segment, None) is None and (segment.allocated or partition.config.preallocate):
            self._sealed[segment] = None
            self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.step()

    async def step(self) -> None:
        """Everything that was asked for."""
        while self._begun:
            segment = next(iter(self._begun))
            size = self._begun.pop(segment)
            segment.allocated = True
            await self._on_thread(segment, partial(reserve, size=size))
        if self._sealed:
            async with self.engine.checkpoints.busy:  # a cut truncates too
                while self._sealed:
                    segment = next(iter(self._sealed))
                    del self._sealed[segment]
                    await self._on_thread(segment, partial(cut_off, size=segment.size))

    async def _on_thread(self, segment: Segment, work: Callable[[File], None]) -> None:
        if segment.doomed:
            return
        engine = self.engine
        try:
            file = engine.descriptors.borrow(segment)
        except OSError as error:
            self._complain(segment, error)
            return
        self.pending += 1
        try:
            await engine.maintenance.run(partial(work, file))
        except OSError as error:
            self._complain(segment, error)
        finally:
            self.pending -= 1
            engine.descriptors.give_back(segment)

    def _complain(self, segment: Segment, error: OSError) -> None:
        if (others := self._complaints.due(self.engine.clock.monotonic_ms())) is not None:
            log.warning(
                "%s: preallocate: %s; it goes on without (%d others before it)", segment.log_path, error, others
            )

    async def finish(self) -> None:
        """At the end of a clean stop: what is reserved is given back."""
        paths = [segment.log_path for segment in self._sealed]
        for partition in self.engine.partitions.values():
            if partition.segments and (partition.segments[-1].allocated or partition.config.preallocate):
                paths.append(partition.segments[-1].log_path)
        self._begun, self._sealed = {}, {}
        if paths:
            await self.engine.maintenance.run(partial(trim, self.engine.files, paths))


# On a thread


def reserve(file: File, size: int) -> None:
    file.allocate(size)


def cut_off(file: File, size: int) -> None:
    file.truncate(size)


def trim(files: Files, paths: Sequence[str]) -> None:
    """Gives back what is reserved behind the ends of files that nobody writes."""
    for path in paths:
        try:
            file = files.open(path)
            try:
                file.truncate(file.size())
            finally:
                file.close()
        except OSError as error:
            log.warning("%s: what is reserved for it could not be given back: %s", path, error)
