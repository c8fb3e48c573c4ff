"""Settling: the segments of partitions whose bytes are durable by the journal alone are synced, beside the commits.

Invariants: a few partitions at a time on one thread, so that a commit waits for few syncs at most; a `Need` is met when
every partition of it is synced in its segments up to the offset it names, by whatever sync. A partition that is being cut
back is waited for; one that is offline is waited for in vain, so the half of the journal that has its bytes stays as it is.
Not here: why somebody needs it (`journal.py`: to use a half again; `checkpoints.py`: to speak of what is synced).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset
from riverlog.env.executor import Executor
from riverlog.env.files import Files
from riverlog.storage.local.commit_plan import Way
from riverlog.storage.local.committing import Pending, begin_settling, sync_pending
from riverlog.storage.local.counters import Counters
from riverlog.storage.local.partition import LocalPartition

settled_together_max: Final = 16  # partitions


class Need:
    """`met` is called once, on the loop. `failed`, where given, instead of it: a partition fails, or its topic is deleted."""

    __slots__ = ("cover", "failed", "met")

    def __init__(
        self,
        cover: dict[LocalPartition, Offset],
        met: Callable[[], None],
        failed: Callable[[RiverlogError], None] | None = None,
    ) -> None:
        self.cover = cover
        self.met = met
        self.failed = failed


class Settling:
    def __init__(
        self,
        files: Files,
        executor: Executor,
        counters: Counters,
        finished: Callable[[Sequence[Pending]], None],
    ) -> None:
        self._files = files
        self._executor = executor
        self._counters = counters
        self._finished = finished
        self._queue: dict[LocalPartition, None] = {}
        self._needs: list[Need] = []
        self._running: asyncio.Future[Any] | None = None

    def want(self, need: Need) -> None:
        """Begins at once."""
        for partition in [partition for partition, end in need.cover.items() if partition.synced.offset >= end]:
            del need.cover[partition]
        if not need.cover:
            need.met()
            return
        if need.failed is not None and (failures := [one.failure for one in need.cover if one.failure is not None]):
            need.failed(failures[0])
            return
        self._needs.append(need)
        self._queue |= dict.fromkeys(need.cover)
        self.go_on()

    async def synced(self, cover: dict[LocalPartition, Offset]) -> None:
        """Until the segments of each are synced up to its offset, which must be appended. Raises RiverlogError where one
        of them fails."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def met() -> None:
            if not future.done():
                future.set_result(None)

        def failed(error: RiverlogError) -> None:
            if not future.done():
                future.set_exception(error)

        need = Need(cover, met, failed)
        self.want(need)
        try:
            await future
        finally:
            if need in self._needs:
                self._needs.remove(need)

    def reached(self, partition: LocalPartition) -> None:
        """Its `synced` has moved."""
        met: list[Need] = []
        for need in self._needs:
            if partition in need.cover and partition.synced.offset >= need.cover[partition]:
                del need.cover[partition]
                if not need.cover:
                    met.append(need)
        for need in met:
            self._needs.remove(need)
            need.met()

    def failed(self, partition: LocalPartition, error: RiverlogError) -> None:
        """A sync of it failed: it is being cut back."""
        for need in list(self._needs):
            if partition in need.cover and need.failed is not None:
                self._needs.remove(need)
                need.failed(error)

    def forget(self, partition: LocalPartition, error: RiverlogError) -> None:
        """Its topic was deleted: nobody needs its bytes."""
        self._queue.pop(partition, None)
        self.failed(partition, error)
        met: list[Need] = []
        for need in self._needs:
            if need.cover.pop(partition, None) is not None and not need.cover:
                met.append(need)
        for need in met:
            self._needs.remove(need)
            need.met()

    def drop(self, partition: LocalPartition) -> None:
        """Does not begin with it any more."""
        self._queue.pop(partition, None)

    def go_on(self) -> None:
        """With the next ones, if nothing runs. Called too where a partition may have become free for it."""
        if self._running is not None or not self._queue:
            return
        batch: list[Pending] = []
        for partition in list(self._queue):
            if partition.syncing:
                continue  # by a commit, whose end goes on here
            del self._queue[partition]
            try:
                pending = begin_settling(partition)
            except OSError as error:
                self._finished([unopened(partition, error)])
                continue
            if pending is not None:
                batch.append(pending)
                if len(batch) == settled_together_max:
                    break
        if not batch:
            return
        self._counters.settled_segments += sum(len(pending.files) for pending in batch)
        self._running = self._executor.run(partial(sync_pending, self._files, batch))
        self._running.add_done_callback(partial(self._done, batch))

    def _done(self, batch: list[Pending], done: asyncio.Future[Any]) -> None:
        self._running = None
        note_failure(batch, done)
        self._finished(batch)
        self.go_on()


def note_failure(batch: Sequence[Pending], done: asyncio.Future[Any]) -> None:
    """A job that ended without an answer has synced nothing."""
    if done.cancelled() or (failure := done.exception()) is not None:
        if not done.cancelled() and isinstance(failure, OSError):
            error = failure
        else:
            cause = "cancelled" if done.cancelled() else repr(failure)
            error = OSError(f"the commit ended without an answer: {cause}")
        for pending in batch:
            pending.error = pending.error or error


def unopened(partition: LocalPartition, error: OSError) -> Pending:
    """A segment of it cannot be opened: that is as bad as a failed sync."""
    return Pending(
        partition=partition, way=Way.SETTLING, place=partition.durable, leader_epoch=partition.leader_epoch, error=error
    )
