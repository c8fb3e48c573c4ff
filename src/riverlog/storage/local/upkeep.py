"""What the local engine does beside its clients: retention, forgetting of idle producers, and the timers of all that.

Invariants: a look at every partition goes in slices, so the loop is never held; the log start is durable before anything
behind it is removed. Not here: which segments go (`retention.py`), the removal of files (`removal.py`), checkpoints
(`checkpoints.py`), late flushes (`flushing.py`), reserved room (`preallocating.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, TopicId
from riverlog.base.seldom import Seldom
from riverlog.base.units import DAY_MS, HOUR_MS
from riverlog.storage.answers import not_readable
from riverlog.storage.contract import TopicLog
from riverlog.storage.local.checkpoints import timer
from riverlog.storage.local.flushing import Flushes
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.preallocating import Preallocation
from riverlog.storage.local.removal import Removal
from riverlog.storage.local.retention import SegmentFacts, future_segment, plan_retention
from riverlog.storage.local.scrub import Scrubber
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.settling import Need

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

looked_at_once: Final = 100  # partitions, before the loop has its turn
removal_costs: Final = 10  # as much as looks at so many: the active segment may have to be rolled


class Upkeep:
    """Owned by the engine; its tasks are the engine's."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.removal = Removal(engine, engine.remover)
        self.flushes = Flushes(engine)
        self.preallocation = Preallocation(engine)
        self._retention_wanted = asyncio.Event()
        self._late: dict[TopicId, int] = {}
        self._future = Seldom(HOUR_MS)
        self._settling: dict[LocalPartition, None] = {}  # retention waits for the sync of their segments
        self._checkpoint: asyncio.Task[RiverlogError | OSError | None] | None = None  # that runs
        self._next_checkpoint: asyncio.Task[RiverlogError | OSError | None] | None = None
        self._timers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        tasks = self.engine.tasks
        self._timers = [
            tasks.start(self.engine.checkpoints.run(), name="checkpoints"),
            tasks.start(self._retention(), name="retention"),
            tasks.start(self.flushes.run(), name="late flushes"),
            tasks.start(self.preallocation.run(), name="preallocation"),
            tasks.start(Scrubber(self.engine).run(), name="scrubbing"),
            *self.removal.start(),
        ]

    async def stop(self) -> None:
        """No more timers; what they have begun is finished."""
        async with self.engine.checkpoints.busy:
            for timer in self._timers:
                timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)

    async def finish(self) -> None:
        """After the last checkpoint of a clean stop."""
        await self.removal.finish()
        await self.preallocation.finish()

    # Called by partitions and by the engine

    def sealed(self, partition: LocalPartition, segment: Segment) -> None:
        self.preallocation.sealed(partition, segment)
        self.engine.checkpoints.want()

    def late(self, partition: LocalPartition, timestamp_ms: int) -> None:
        """A batch was appended that retention will take soon: a newcomer who loads history has to hear of it."""
        engine = self.engine
        engine.counters.late_batches += 1
        topic_id = partition.id.topic_id
        if topic_id not in self._late:
            topic = engine.topics[topic_id]
            days = (engine.clock.now_ms() - timestamp_ms) // DAY_MS
            log.warning(
                "topic %s gets records that are %d days old and keeps them for %d (retention.ms=%d): they will be removed "
                "soon. To keep them: riverlog topic alter %s -c retention.ms=-1",
                topic.name,
                days,
                topic.config.retention_ms // DAY_MS,
                topic.config.retention_ms,
                topic.name,
            )
        self._late[topic_id] = self._late.get(topic_id, 0) + 1

    def flush_later(self, partition: LocalPartition) -> None:
        """With durability page-cache: `flush.ms` bounds how long bytes stay unsynced."""
        self.flushes.later(partition)

    def hurry(self) -> None:
        """A configuration was changed: look at retention now."""
        self._retention_wanted.set()

    # Retention

    async def _retention(self) -> None:
        settings, clock = self.engine.settings, self.engine.clock
        while True:
            await timer(clock, settings.retention_check_interval_ms, self._retention_wanted)
            self._retention_wanted.clear()
            left = looked_at_once
            for partition in list(self.engine.partitions.values()):
                if left <= 0:
                    await _turn()
                    left = looked_at_once
                left -= removal_costs if self._look(partition) else 1

    def retain(self) -> None:
        """One look at every partition. Removal itself goes on in the background."""
        for partition in list(self.engine.partitions.values()):
            self._look(partition)

    def _look(self, partition: LocalPartition) -> bool:
        """Whether something was removed of it."""
        if partition.failure is not None:
            return False
        now_ms = self.engine.clock.now_ms()
        partition.producers.expire(now_ms, self.engine.settings.producer_id_expiration_ms)
        try:
            return self._retain(partition, now_ms)
        except OSError as error:
            log.error("retention of %s: %s", partition.name, error)
            return True

    def _retain(self, partition: LocalPartition, now_ms: int) -> bool:
        if self.engine.compacting.is_swapping(partition):
            return False  # its files are getting their names; the next look is soon enough
        facts = [
            SegmentFacts(
                segment.next_offset,
                segment.size,
                segment.max_timestamp if segment.max_timestamp >= 0 else segment.created_ms,
            )
            for segment in partition.segments
        ]
        plan = plan_retention(
            facts,
            log_start=partition.log_start,
            stable_offset=partition.stable_offset(),
            now_ms=now_ms,
            config=partition.config,
        )
        future = future_segment(facts[plan.doomed :], now_ms, partition.config)
        if future is not None and (others := self._future.due(now_ms)) is not None:
            log.warning(
                "%s: its oldest segment has a timestamp %d s ahead of this machine's clock: retention.ms removes nothing of "
                "this partition before that is over (%d others or looks before it). To take it sooner: retention.bytes, or "
                "delete its records; message.timestamp.after.max.ms refuses such records",
                partition.name,
                (future.newest_ms - now_ms) // 1000,
                others,
            )
        if not plan.doomed or self._must_settle(partition, facts[plan.doomed - 1].next_offset):
            return False
        if plan.roll:
            partition.roll(now_ms)
        doomed = partition.drop_first(plan.doomed)
        counters = self.engine.counters
        counters.deleted_segments += len(doomed)
        counters.deleted_bytes += sum(segment.size for segment in doomed)
        log.info(
            "%s: retention removes %d segments, it begins at %d now", partition.name, len(doomed), partition.log_start
        )
        for segment in doomed:
            self.engine.checkpoints.forget(segment)
            self.engine.descriptors.doom(segment)
        self.removal.segments(partition, doomed)
        return True

    def _must_settle(self, partition: LocalPartition, end: int) -> bool:
        """Whether segments before `end` are not synced yet: a hole before what is synced would be damage. They are, and
        then retention looks again."""
        if partition.synced.offset >= end:
            return False
        if partition not in self._settling:
            self._settling[partition] = None

            def settled(error: RiverlogError | None = None) -> None:
                self._settling.pop(partition, None)
                if error is None:
                    self._retention_wanted.set()

            self.engine.commit.settling.want(Need({partition: Offset(end)}, settled, settled))
        return True

    async def delete_before(self, partition: LocalPartition, offset: Offset) -> Offset:
        """Kafka's DeleteRecords: up to the high watermark; segments that hold nothing else go with the next retention."""
        target = partition.high.offset if offset == -1 else offset
        if not 0 <= target <= partition.high.offset:
            raise not_readable(partition.name, partition.high.offset, offset)
        checkpoints = self.engine.checkpoints
        stable = partition.stable_offset()
        partition.log_start = start = max(partition.log_start, Offset(target))
        if partition.stable_offset() != stable:
            self.engine.alarm.moved(partition)  # what held it back was deleted
        if start > checkpoints.log_starts.get(partition.id, 0):
            error = await self._shared_checkpoint()
            if isinstance(error, RiverlogError):  # some partition failed or went meanwhile; the next does not wait for it
                error = await self._shared_checkpoint()
            if error is not None:
                raise error
            if start > checkpoints.log_starts.get(partition.id, 0):
                raise partition.failure or not_readable(partition.name, partition.high.offset, target)
            self._retention_wanted.set()
        return start

    async def _shared_checkpoint(self) -> RiverlogError | OSError | None:
        """One that begins after this call. All that ask until it begins share it: a request that deletes records of a
        thousand partitions costs two, not a thousand."""
        if self._next_checkpoint is None:
            work = self._write_checkpoint(self._checkpoint)
            self._next_checkpoint = self.engine.tasks.start(work, name="checkpoint of deleted records")
        return await asyncio.shield(self._next_checkpoint)

    async def _write_checkpoint(
        self, before: asyncio.Task[RiverlogError | OSError | None] | None
    ) -> RiverlogError | OSError | None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._checkpoint, self._next_checkpoint = self._next_checkpoint, None
        try:
            await self.engine.checkpoints.write()
        except (RiverlogError, OSError) as error:
            return error
        return None

    # Topics that were deleted

    async def remove_topic(self, topic: TopicLog, doomed: Sequence[LocalPartition]) -> None:
        self._late.pop(topic.topic_id, None)
        for partition in doomed:
            self.flushes.forget(partition)
            for segment in partition.segments:
                self.engine.checkpoints.forget(segment)
        await self.removal.topic(topic.topic_id, doomed)

    def remove_directory(self, path: str) -> None:
        self.removal.directory(path)


async def _turn() -> None:
    """Everything else that is due comes first."""
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    loop.call_soon(lambda: None if turn.done() else turn.set_result(None))
    await turn
