"""The group commit: makes what was appended durable, many partitions at a time, without ever waiting for company.

Invariants: a partition is in at most one running commit (two syncs of one descriptor would share one error report); a
commit starts as soon as something is pending and its lane is free; what arrives meanwhile is the next one's. Partitions
with somebody waiting go in the first lane, all others in the second, so that bulk never delays those who wait. What nobody
waits for at all, neither a producer nor a reader, may be asked for `later`: it gathers for some milliseconds first. Each lane
has its own thread to sync on, and shares more of them where many files are touched.
Not here: a partition's part in a commit (`committing.py`), how a way is chosen (`commit_plan.py`), the ring (`journal.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, Final

from riverlog.base.errors import RiverlogError
from riverlog.base.units import MIB
from riverlog.env.executor import Executor
from riverlog.env.files import Files
from riverlog.storage.format.journal import ENTRY_BYTES
from riverlog.storage.local.commit_plan import PendingBytes, Way, plan_commit, share_work
from riverlog.storage.local.committing import (
    Pending,
    Run,
    begin_journal,
    begin_segments,
    give_back,
    is_current,
    pending_bytes,
    runs_of,
    sync_pending,
)
from riverlog.storage.local.counters import Counters
from riverlog.storage.local.journal import Journal, Slot, record_bytes_max
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.settling import Settling, note_failure, unopened

log = logging.getLogger(__name__)

gather_seconds_max: Final = 0.02
gather_bytes_max: Final = 4 * MIB  # of one partition: that much is a commit worth making


class Lane(IntEnum):
    AWAITED = 0
    BULK = 1


class GroupCommit:
    """`finished` is called on the loop with what each commit did, errors included. `soon` runs a function in the next
    turn of the loop: all appends of one turn go into one commit; `later` after so many seconds."""

    def __init__(
        self,
        files: Files,
        executors: Sequence[Executor],
        settler: Executor,
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
        self.settling = Settling(files, settler, counters, self._settled)
        self.journal: Journal | None = None  # made when the start is over
        self.journal_files_min = 0
        self.files_at_once_max = 1 << 30  # partitions whose files one commit may hold open
        self._start_is_due = False
        self._gathering: dict[LocalPartition, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: tuple[dict[LocalPartition, None], ...] = ({}, {})
        self._running = [0, 0]  # jobs of each lane's commit
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
        if not self._start_is_due and not self._running[lane] and not partition.committing:
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
        """Begins nothing with it any more."""
        self._gathering.pop(partition, None)
        self.settling.drop(partition)
        for waiting in self._waiting:
            waiting.pop(partition, None)

    def gone(self, partition: LocalPartition, error: RiverlogError) -> None:
        """Its topic was deleted."""
        self.forget(partition)
        self.settling.forget(partition, error)
        if self.journal is not None:
            self.journal.forget(partition)

    async def drain(self) -> None:
        """Until nothing is pending and nothing runs. What gathers is hurried."""
        if self._timer is not None:
            self._timer.cancel()
            self._gathered()
        while any(self._waiting) or any(self._running):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    # Commits

    def _start_both(self) -> None:
        self._start_is_due = False
        for lane in Lane:
            if self._waiting[lane] and not self._running[lane]:
                self._start(lane)
        if self._idle and not any(self._running) and not any(self._waiting):
            idle, self._idle = self._idle, []
            for waiter in idle:
                if not waiter.done():
                    waiter.set_result(None)

    def _start(self, lane: Lane) -> None:
        waiting = self._waiting[lane]
        chosen: list[LocalPartition] = []
        sizes: list[PendingBytes] = []
        for partition in list(waiting):
            if partition.committing:
                continue
            if (size := pending_bytes(partition)) is None:
                del waiting[partition]
                continue
            chosen.append(partition)
            sizes.append(size)
        if not chosen:
            return
        ways = plan_commit(sizes, self.journal_files_min if self.journal is not None else 0)
        journaled = [partition for partition, way in zip(chosen, ways, strict=True) if way is Way.JOURNAL]
        synced = [partition for partition, way in zip(chosen, ways, strict=True) if way is not Way.JOURNAL]
        if journaled and (untaken := self._start_journal(lane, journaled)):
            self._counters.journal_full += 1
            left_to_journal = set(journaled).difference(untaken)
            synced = [partition for partition in chosen if partition not in left_to_journal]
        self._start_segments(lane, synced)
        if self._running[lane]:
            self._counters.commits += 1

    def _start_journal(self, lane: Lane, partitions: Sequence[LocalPartition]) -> Sequence[LocalPartition]:
        """Gives those that must sync their segments instead. What a record has no room for waits for the next commit."""
        assert self.journal is not None
        runs: list[tuple[LocalPartition, Run]] = []
        taken: list[LocalPartition] = []
        left = record_bytes_max // 2
        for partition in partitions:
            found = runs_of(partition)
            for run in found:
                left -= run.length + 2 * ENTRY_BYTES
            if left < 0 and taken:
                break
            for run in found:
                runs.append((partition, run))
            taken.append(partition)
        try:
            slot = self.journal.rings[lane].stage(runs)
        except OSError as error:
            log.error("a commit cannot be copied into the journal (%s); its segments are synced instead", error)
            slot = None
        if slot is None:
            return partitions
        waiting = self._waiting[lane]
        commit: list[Pending] = []
        for partition in taken:
            del waiting[partition]
            commit.append(begin_journal(partition))
        self._running[lane] += 1
        running = self._executors[lane].run(partial(self.journal.write, slot))
        running.add_done_callback(partial(self._journaled, lane, slot, commit))
        return ()

    def _start_segments(self, lane: Lane, partitions: Sequence[LocalPartition]) -> None:
        commit: list[Pending] = []
        for partition in partitions:
            if partition.syncing:
                continue  # its settling ends in some milliseconds, and starts us
            if len(commit) >= self.files_at_once_max:
                break  # the others' turn comes with the end of this one
            del self._waiting[lane][partition]
            try:
                commit.append(begin_segments(partition))
            except OSError as error:
                self._report([unopened(partition, error)])
        if not commit:
            return
        self._counters.syncs += sum(len(pending.files) for pending in commit)
        for part in share_work(len(commit), self._threads):
            share = commit[part.start : part.stop]
            self._running[lane] += 1
            running = self._executors[lane].run(partial(sync_pending, self._files, share))
            running.add_done_callback(partial(self._synced, lane, share))

    def _journaled(self, lane: Lane, slot: Slot, commit: list[Pending], done: asyncio.Future[Any]) -> None:
        self._running[lane] -= 1
        note_failure(commit, done)
        assert self.journal is not None
        if (error := commit[0].error) is None:
            self.journal.written(slot, [(one.partition, one.place.offset) for one in commit if is_current(one)])
            self._report(commit)
        else:
            self.journal.failed(lane, slot, error)
            for pending in commit:
                if give_back(pending):
                    self._waiting[lane][pending.partition] = None
            self._report(())  # of what was deleted meanwhile nothing is unsynced any more
        self._go_on()

    def _synced(self, lane: Lane, share: list[Pending], done: asyncio.Future[Any]) -> None:
        self._running[lane] -= 1
        note_failure(share, done)
        self._report(share)
        self._go_on()

    def _settled(self, settled: Sequence[Pending]) -> None:
        self._report(settled)
        self._start_both()

    def _report(self, finished: Sequence[Pending]) -> None:
        self._finished(finished)
        for pending in finished:
            if pending.error is None and pending.way is not Way.JOURNAL:
                self.settling.reached(pending.partition)

    def _go_on(self) -> None:
        self.settling.go_on()
        self._start_both()
