"""The group commit: makes what was appended durable, many partitions at a time, without ever waiting for company.

Invariants: a partition is in at most one running commit (two syncs of one descriptor would share one error report); a
commit starts as soon as something is pending and its lane is free; what arrives meanwhile is the next one's. Partitions
with somebody waiting go in the first lane, all others in the second, so that bulk never delays those who wait. What nobody
waits for at all, neither a producer nor a reader, may be asked for `later`: it gathers for some milliseconds first. Each lane
has its own thread to sync on, and shares more of them where many files are touched.
Not here: what a partition does with its new durable end (`partition.py`), how a way is chosen (`commit_plan.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from riverlog.base.ids import Offset
from riverlog.base.units import MIB
from riverlog.env.executor import Executor
from riverlog.env.files import File, Files
from riverlog.storage.local.commit_plan import PendingBytes, Way, plan_commit, share_work
from riverlog.storage.local.counters import Counters

if TYPE_CHECKING:
    from riverlog.storage.local.partition import LocalPartition
    from riverlog.storage.local.segments import Segment


gather_seconds_max: Final = 0.02
gather_bytes_max: Final = 4 * MIB  # of one partition: that much is a commit worth making


class Lane(IntEnum):
    AWAITED = 0
    BULK = 1


@dataclass(slots=True, kw_only=True)
class Pending:
    """What one commit does for one partition, and up to where it makes it durable."""

    partition: LocalPartition
    files: list[File]
    segments: list[Segment]
    names: list[str]  # files that were made with the partition's directory: synced by path
    directories: list[str]  # innermost first
    end: Offset
    segment: Segment
    position: int
    bytes: int
    error: OSError | None = None


def sync_pending(files: Files, share: Sequence[Pending]) -> None:
    """On a thread: syncs what each holds, content before names. An error stays with its own partition."""
    for pending in share:
        try:
            for file in pending.files:
                file.sync()
            for path in pending.names:
                file = files.open(path)
                try:
                    file.sync()
                finally:
                    file.close()
            for path in pending.directories:
                files.sync_directory(path)
        except OSError as error:
            pending.error = error
            distrust(pending.files)


def distrust(files: Sequence[File]) -> None:
    """The pages of a failed sync count as clean and are not on the disk: without this whoever reads them next, the next
    start too, would take them for synced."""
    for file in files:
        try:
            file.advise_dontneed(0, file.size())
        except OSError:
            pass  # it is only advice; the partition is cut all the same


class GroupCommit:
    """`finished` is called on the loop with what each commit did, errors included. `soon` runs a function in the next
    turn of the loop: all appends of one turn go into one commit; `later` after so many seconds."""

    def __init__(
        self,
        files: Files,
        executors: Sequence[Executor],
        threads: int,
        counters: Counters,
        finished: Callable[[Sequence[Pending]], None],
        soon: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        assert len(executors) == len(Lane)
        self._files = files
        self._executors = executors
        self._threads = threads
        self._counters = counters
        self._finished = finished
        self._soon = soon
        self._later = later
        self._start_is_due = False
        self._gathering: dict[LocalPartition, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: tuple[dict[LocalPartition, None], ...] = ({}, {})
        self._running: list[asyncio.Future[Any] | None] = [None, None]
        self._idle: list[asyncio.Future[None]] = []

    def dirty(self, partition: LocalPartition, lane: Lane) -> None:
        """The partition has bytes to be made durable; asking again is cheap. AWAITED overrules BULK."""
        awaited, bulk = self._waiting
        if partition in awaited:
            return
        if lane is Lane.AWAITED:
            bulk.pop(partition, None)
            awaited[partition] = None
        elif partition in bulk:
            return
        else:
            bulk[partition] = None
        if not self._start_is_due and self._running[lane] is None and not partition.committing:
            self._start_is_due = True
            self._soon(self._start_both)

    def later(self, partition: LocalPartition) -> None:
        """As `dirty` in the second lane, but within `gather_seconds_max`: for what nobody waits for yet."""
        self._gathering[partition] = None
        if self._timer is None:
            self._timer = self._later(gather_seconds_max, self._gathered)

    def _gathered(self) -> None:
        self._timer = None
        gathered, self._gathering = self._gathering, {}
        for partition in gathered:
            if partition.unsynced_bytes:
                self.dirty(partition, Lane.BULK)

    def forget(self, partition: LocalPartition) -> None:
        self._gathering.pop(partition, None)
        for waiting in self._waiting:
            waiting.pop(partition, None)

    async def drain(self) -> None:
        """Until nothing is pending and nothing runs. What gathers is hurried."""
        if self._timer is not None:
            self._timer.cancel()
            self._gathered()
        while any(self._waiting) or any(self._running):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    def _start_both(self) -> None:
        self._start_is_due = False
        for lane in Lane:
            if self._waiting[lane] and self._running[lane] is None:
                self._start(lane)
        if self._idle and not any(self._running) and not any(self._waiting):
            idle, self._idle = self._idle, []
            for waiter in idle:
                if not waiter.done():
                    waiter.set_result(None)

    def _start(self, lane: Lane) -> None:
        waiting = self._waiting[lane]
        chosen = [partition for partition in waiting if not partition.committing]
        if not chosen:
            return
        commit: list[Pending] = []
        for partition in chosen:
            del waiting[partition]
            if (pending := partition.begin_commit()) is not None:
                commit.append(pending)
        if not commit:
            return
        counters = self._counters
        counters.commits += 1
        ways = plan_commit([PendingBytes(pending.bytes, len(pending.files)) for pending in commit])
        assert all(way is Way.SEGMENTS for way in ways)
        counters.syncs += sum(len(pending.files) for pending in commit)
        running: asyncio.Future[Any]
        executor = self._executors[lane]
        if len(commit) == 1:
            running = asyncio.gather(executor.run(_syncing(self._files, commit)))
        else:
            shares = [commit[share.start : share.stop] for share in share_work(len(commit), self._threads)]
            running = asyncio.gather(*(executor.run(_syncing(self._files, share)) for share in shares))
        self._running[lane] = running
        running.add_done_callback(lambda done: self._done(lane, commit, done))

    def _done(self, lane: Lane, commit: list[Pending], done: asyncio.Future[Any]) -> None:
        self._running[lane] = None
        if done.cancelled() or (failure := done.exception()) is not None:
            cause = "cancelled" if done.cancelled() else repr(failure)
            for pending in commit:
                pending.error = pending.error or OSError(f"the commit ended without an answer: {cause}")
        self._finished(commit)
        self._start_both()


def _syncing(files: Files, share: Sequence[Pending]) -> Callable[[], None]:
    return lambda: sync_pending(files, share)
