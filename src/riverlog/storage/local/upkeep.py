"""What the local engine does beside its clients: retention, removal of files, late flushes, and its timers.

Invariants: a segment is renamed before it is unlinked, and unlinked only after `file.delete.delay.ms`; the log start is
durable before. Not here: which segments go (`retention.py`), checkpoints (`checkpoints.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, TopicId
from riverlog.base.units import DAY_MS
from riverlog.env.files import Files
from riverlog.storage.answers import not_readable
from riverlog.storage.contract import TopicLog
from riverlog.storage.format import names
from riverlog.storage.local.checkpoints import remove_quietly, timer
from riverlog.storage.local.group_commit import Lane
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.retention import SegmentFacts, plan_retention
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

retry_s: Final = 10.0  # of a checkpoint that a removal waits for

checkpoint_spacing_s = 1.0  # between two that rolled segments ask for


class Upkeep:
    """Owned by the engine; its tasks are the engine's."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self._retention_wanted = asyncio.Event()
        self._late: dict[TopicId, int] = {}
        self._flushing: set[LocalPartition] = set()
        self._timers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        tasks = self.engine.tasks
        self._timers = [
            tasks.start(self.engine.checkpoints.run(), name="checkpoints"),
            tasks.start(self._retention(), name="retention"),
        ]

    async def stop(self) -> None:
        """No more timers; what they have begun is finished."""
        async with self.engine.checkpoints.busy:
            for timer in self._timers:
                timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)

    # Called by partitions

    def sealed(self, partition: LocalPartition, segment: Segment) -> None:
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
        flush_ms = partition.config.flush_ms
        if flush_ms >= 366 * DAY_MS or partition in self._flushing:
            return
        self._flushing.add(partition)
        self.engine.tasks.start(self._flush(partition, flush_ms), name=f"flush {partition.name}")

    async def _flush(self, partition: LocalPartition, flush_ms: int) -> None:
        await self.engine.clock.sleep(flush_ms / 1000)
        self._flushing.discard(partition)
        if partition.unsynced_bytes and partition.failure is None:
            self.engine.commit.dirty(partition, Lane.BULK)

    def hurry(self) -> None:
        """A configuration was changed: look at retention now."""
        self._retention_wanted.set()

    # Retention

    async def _retention(self) -> None:
        settings = self.engine.settings
        while True:
            await timer(self.engine.clock, settings.retention_check_interval_ms, self._retention_wanted)
            self._retention_wanted.clear()
            self.retain()

    def retain(self) -> None:
        """One look at every partition. Removal itself goes on in the background."""
        engine = self.engine
        now_ms = engine.clock.now_ms()
        for partition in list(engine.partitions.values()):
            if partition.failure is not None:
                continue
            partition.producers.expire(now_ms, engine.settings.producer_id_expiration_ms)
            try:
                self._retain(partition, now_ms)
            except OSError as error:
                log.error("retention of %s: %s", partition.name, error)

    def _retain(self, partition: LocalPartition, now_ms: int) -> None:
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
            high_watermark=partition.high.offset,
            now_ms=now_ms,
            config=partition.config,
        )
        if not plan.doomed:
            return
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
        self.engine.tasks.start(self._remove_segments(partition, doomed), name="removal")

    async def _remove_segments(self, partition: LocalPartition, doomed: Sequence[Segment]) -> None:
        """The new log start is durable first: else some of them might come back after a crash, and leave a hole. A checkpoint
        leaves out a partition that fails: it is waited for too."""
        files, checkpoints = self.engine.files, self.engine.checkpoints
        start, delay_ms = doomed[-1].next_offset, partition.config.file_delete_delay_ms
        while True:
            try:
                await checkpoints.write()
                if self.engine.partitions.get(partition.id) is not partition:
                    return  # its whole directory goes
                needed = checkpoints.recovery_segments.get(partition.id, 0) <= doomed[-1].base_offset
                if checkpoints.log_starts.get(partition.id, 0) >= start and not needed:
                    break
                log.error("%s: nothing is removed before its log start is in a checkpoint", partition.name)
            except (OSError, RiverlogError) as error:
                log.error("the checkpoint could not be written: %s; nothing is removed before it is", error)
            await self.engine.clock.sleep(retry_s)
        paths = await self.engine.maintenance.run(partial(rename_segments, files, [one.path for one in doomed]))
        await self.engine.clock.sleep(delay_ms / 1000)
        await self.engine.maintenance.run(partial(remove_quietly, files, paths))

    async def delete_before(self, partition: LocalPartition, offset: Offset) -> Offset:
        """Kafka's DeleteRecords: up to the high watermark; segments that hold nothing else go with the next retention."""
        target = partition.high.offset if offset == -1 else offset
        if not 0 <= target <= partition.high.offset:
            raise not_readable(partition.name, partition.high.offset, offset)
        durable_starts = self.engine.checkpoints.log_starts
        partition.log_start = start = max(partition.log_start, Offset(target))
        if start > durable_starts.get(partition.id, 0):
            try:
                await self.engine.checkpoints.write()
            except RiverlogError:  # some partition failed or went meanwhile; the next one does not wait for it
                await self.engine.checkpoints.write()
            if start > self.engine.checkpoints.log_starts.get(partition.id, 0):
                raise partition.failure or not_readable(partition.name, partition.high.offset, target)
            self._retention_wanted.set()
        return start

    # Directories

    async def remove_topic(self, topic: TopicLog, doomed: Sequence[LocalPartition]) -> None:
        files = self.engine.files
        parent = self.engine.topics_directory
        moved: list[str] = []
        for partition in doomed:
            if not partition.made:
                continue
            target = f"{parent}/{names.deleted_directory_name(topic.topic_id, partition.id.index)}"
            files.rename(partition.directory, target)
            moved.append(target)
            for segment in partition.segments:
                self.engine.checkpoints.forget(segment)
        if moved:
            await self.engine.maintenance.run(partial(files.sync_directory, parent))
            for path in moved:
                self.remove_directory(path)

    def remove_directory(self, path: str) -> None:
        self.engine.tasks.start(self._remove_directory(path), name="removal of a topic")

    async def _remove_directory(self, path: str) -> None:
        try:
            await self.engine.maintenance.run(partial(self.engine.files.remove_tree, path))
        except OSError as error:
            log.warning("%s could not be removed: %s", path, error)


# On a thread


def rename_segments(files: Files, paths: Sequence[str]) -> list[str]:
    """All files of the segments get the suffix that marks them for removal; gives their new names."""
    renamed: list[str] = []
    for path in paths:
        for suffix in names.SEGMENT_SUFFIXES:
            try:
                files.rename(path + suffix, path + suffix + names.DELETED)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("%s could not be renamed: %s", path + suffix, error)
                continue
            renamed.append(path + suffix + names.DELETED)
    return renamed
