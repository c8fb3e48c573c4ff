"""Compaction beside the clients: which partition, in slices on a thread, and the swap of its segments in memory.

Invariants: only sealed segments are touched whose files are synced and in the checkpoint, below every place that a partition
keeps; a run that finds its partition changed (deleted, cut back, retention, another policy) gives up and has changed nothing; the
segments in memory are exchanged on the loop, after the manifest is durable and before a file gets another name; readers of old
segments go on with the files that they hold. A partition has at most one manifest: the next swap waits for a checkpoint.
Not here: the rules (`storage/compaction.py`, `storage/compaction_plan.py`), files (`cleaner.py`, `swaps.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from riverlog.base.errors import Corruption, RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.base.units import INT64_MAX
from riverlog.env.executor import Executor
from riverlog.env.files import File
from riverlog.records.header import HEADER_BYTES, read_header
from riverlog.storage.compaction_plan import Cleanable, plan_compaction
from riverlog.storage.local.checkpoints import timer, turn
from riverlog.storage.local.compaction_run import Abandoned, Compacted, CompactionRun, facts_of
from riverlog.storage.local.damage import note_damage
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

T = TypeVar("T")
looked_at_once: Final = 100  # partitions, before the loop has its turn
throttle_burst_ms: Final = 1_000  # of the allowed rate, that may be used at once


class Choice(NamedTuple):
    partition: LocalPartition
    plan: Cleanable


class Compacting:
    """Owned by the engine; its tasks are the engine's."""

    def __init__(self, engine: LocalEngine, executor: Executor) -> None:
        self.engine = engine
        self.executor = executor
        self.closing = asyncio.Event()
        self.swapping: dict[
            PartitionId, asyncio.Future[None]
        ] = {}  # files are changed by their names: nobody else may move them
        self._running: dict[PartitionId, None] = {}
        self._stuck: dict[PartitionId, None] = {}  # until the next start it is not known which files count
        self._aside_ms: dict[PartitionId, int] = {}  # until when the others come first: it could not be compacted
        self._workers: list[asyncio.Task[None]] = []
        self._throttled_ms = 0.0  # up to when what was moved is paid for

    def start(self) -> None:
        settings = self.engine.settings
        if settings.cleaner_enable:
            for number in range(settings.cleaner_threads):
                self._workers.append(self.engine.tasks.start(self._work(), name=f"compaction {number}"))

    async def stop(self) -> None:
        """A swap that has begun is finished; everything else is given up."""
        self.closing.set()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def let_go(self, partition: LocalPartition) -> None:
        """Before the partition's directory gets another name: until no swap, and no cut, changes files in it."""
        if (swapping := self.swapping.get(partition.id)) is not None:
            await asyncio.shield(swapping)

    def is_swapping(self, partition: LocalPartition) -> bool:
        return partition.id in self.swapping

    def stick(self, partition: LocalPartition) -> None:
        self._stuck[partition.id] = None

    # Which

    async def _work(self) -> None:
        clock, settings = self.engine.clock, self.engine.settings
        while not self.closing.is_set():
            if (choice := await self._choose()) is None:
                await timer(clock, settings.cleaner_backoff_ms, self.closing)
            elif not await self._tried(choice.partition):
                backoff_ms = max(1, settings.cleaner_backoff_ms)
                self._aside_ms[choice.partition.id] = clock.monotonic_ms() + backoff_ms

    async def _tried(self, partition: LocalPartition) -> bool:
        """False: look again later only."""
        try:
            return await self.run_once(partition) is not None
        except (OSError, RiverlogError) as error:
            log.error("%s could not be compacted: %s; it is tried again", partition.name, error)
            return False
        except Exception:
            log.exception("%s could not be compacted; it is tried again", partition.name)
            return False

    async def _choose(self) -> Choice | None:
        """The dirtiest of those that are due."""
        best: Choice | None = None
        highest = 0.0
        now_ms = self.engine.clock.monotonic_ms()
        self._aside_ms = {id: until_ms for id, until_ms in self._aside_ms.items() if until_ms > now_ms}
        for number, partition in enumerate(list(self.engine.partitions.values()), 1):
            if number % looked_at_once == 0:
                await turn()
            if not partition.config.cleanup_compact or not self._may_run(partition) or partition.id in self._aside_ms:
                continue
            if partition.config.max_compaction_lag_ms < INT64_MAX:
                await self._learn_times(partition)
            plan = self.plan(partition)
            highest = max(highest, plan.dirty_ratio)
            if plan.is_due(partition.config) and (best is None or plan.dirty_ratio > best.plan.dirty_ratio):
                best = Choice(partition, plan)
        self.engine.counters.dirty_ratio_max = highest
        return best

    def _may_run(self, partition: LocalPartition) -> bool:
        return partition.failure is None and partition.id not in self._running and partition.id not in self._stuck

    def candidates(self, partition: LocalPartition) -> list[Segment]:
        """The sealed segments that may be touched, from the first on; none where one of them is damaged."""
        limit = self.engine.checkpoints.recovery_segments.get(partition.id, Offset(0))
        reached = min(partition.durable.offset, partition.synced.offset, partition.high.offset)
        held = (partition.durable.segment, partition.synced.segment, partition.high.segment)
        found: list[Segment] = []
        for segment in partition.segments[:-1]:
            if segment.base_offset >= limit or segment.next_offset > reached or not segment.saved or segment in held:
                break
            if segment.damaged_at is not None:
                return []
            found.append(segment)
        return found

    def plan(self, partition: LocalPartition) -> Cleanable:
        return plan_compaction(
            [facts_of(segment) for segment in self.candidates(partition)],
            cleaned_offset=partition.cleaned_offset,
            log_start=partition.log_start,
            stable_offset=partition.stable_offset(),
            now_ms=self.engine.clock.now_ms(),
            config=partition.config,
        )

    async def _learn_times(self, partition: LocalPartition) -> None:
        """The times of the first batches of dirty segments, which a start does not read."""
        for segment in self.candidates(partition):
            if segment.next_offset <= partition.cleaned_offset or segment.first_timestamp >= 0 or segment.doomed:
                continue
            try:
                file = self.engine.descriptors.borrow(segment)
            except OSError:
                return
            try:
                segment.first_timestamp = await self.executor.run(partial(first_timestamp, file))
            except OSError:
                return
            finally:
                self.engine.descriptors.give_back(segment)

    # A run

    async def run_once(self, partition: LocalPartition) -> Compacted | None:
        """Compacts what may be compacted of the partition, dirty enough or not. None: there was nothing to do, or it was
        given up. Raises OSError and RiverlogError where the disk refuses; then nothing has changed but what was swapped."""
        if not self._may_run(partition) or self.closing.is_set():
            return None
        self._running[partition.id] = None
        counters = self.engine.counters
        run = CompactionRun(self, partition)
        try:
            done = await run.run()
        except Abandoned as reason:
            log.info("%s: compaction was given up: %s", partition.name, reason)
            return None
        except Corruption as damage:
            counters.failed_compactions += 1
            for segment in partition.segments:
                if damage.path == segment.log_path:
                    note_damage(self.engine, partition, segment, damage.position, damage.what)
                    return None
            raise
        except (OSError, RiverlogError):
            counters.failed_compactions += 1
            raise
        finally:
            await run.tidy()
            del self._running[partition.id]
        if done is None:
            return None
        counters.compactions += 1
        counters.compaction_ms += done.duration_ms
        counters.compacted_records_in += done.records_in
        counters.compacted_records_out += done.records_out
        log.info(
            "%s: compacted up to %d: %d bytes became %d, %d records %d, in %d ms and %d passes",
            partition.name,
            done.cleaned_offset,
            done.bytes_in,
            done.bytes_out,
            done.records_in,
            done.records_out,
            done.duration_ms,
            done.passes,
        )
        return done

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Waits also where the task is cancelled: nothing may be changed under a thread that works on it."""
        running = self.executor.run(work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait((running,))
            raise

    async def pay(self, moved_bytes: int) -> None:
        """Keeps what all compactions read and write under `log.cleaner.io.max.bytes.per.second`."""
        rate = self.engine.settings.cleaner_io_bytes_per_second_max
        now_ms = self.engine.clock.monotonic_ms()
        due_ms = max(self._throttled_ms, now_ms - throttle_burst_ms) + moved_bytes * 1000 / rate
        self._throttled_ms = due_ms
        if due_ms > now_ms and not self.closing.is_set():
            await timer(self.engine.clock, int(due_ms - now_ms) + 1, self.closing)


# On a thread


def first_timestamp(file: File) -> int:
    head = file.read_at(HEADER_BYTES, 0)
    return read_header(head).max_timestamp if len(head) == HEADER_BYTES else -1
