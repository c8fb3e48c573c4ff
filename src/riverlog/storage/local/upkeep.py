"""What the local engine does beside its clients: checkpoints, retention, removal of files, repair after a failed sync.

Invariants: a checkpoint is written after everything it speaks of was synced, one at a time, and never while a partition
is being cut back; a segment is renamed before it is unlinked, and unlinked only after `file.delete.delay.ms`.
Not here: which segments go (`retention.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position, TopicId
from riverlog.base.units import DAY_MS
from riverlog.env.files import Files, replace_file, write_whole
from riverlog.state.producers import ProducerEntry
from riverlog.storage.contract import TopicLog
from riverlog.storage.format import checkpoint, names, producer_snapshot
from riverlog.storage.format.checkpoint import Checkpoint, PartitionMark, SegmentMark
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.local.group_commit import Lane, Pending
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.recovery import recover
from riverlog.storage.local.retention import SegmentFacts, plan_retention
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.waiting import CutWaiter

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

checkpoint_spacing_s = 1.0  # between two that rolled segments ask for


@dataclass(slots=True, kw_only=True)
class Saving:
    """What a thread writes for one partition before a checkpoint may speak of it."""

    partition: LocalPartition
    mark: PartitionMark
    indexes: list[tuple[Segment, str, bytes, int]]  # segment, path, new bytes, where they go
    entries: list[tuple[Segment, int, int]]  # how many entries are saved then
    epochs: bytes | None
    producers: list[ProducerEntry]


def save(files: Files, savings: Sequence[Saving]) -> None:
    """On a thread. Raises OSError."""
    for saving in savings:
        directory = saving.partition.directory
        for _, path, data, position in saving.indexes:
            file = files.open(path, create=True)
            try:
                write_whole(file, data, position)
                file.truncate(position + len(data))
                file.sync()
            finally:
                file.close()
        if saving.producers:
            name = names.segment_file_name(saving.mark.recovery_offset, names.SNAPSHOT)
            replace_file(files, f"{directory}/{name}", producer_snapshot.encode(saving.producers))
        if saving.epochs is not None:
            replace_file(files, f"{directory}/{names.LEADER_EPOCHS}", saving.epochs)
        elif saving.indexes:
            files.sync_directory(directory)


class Upkeep:
    """Owned by the engine; its tasks are the engine's."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.generation = 0
        self.busy = asyncio.Lock()  # a checkpoint, or a cut
        self._wanted = asyncio.Event()  # a segment was rolled
        self._retention_wanted = asyncio.Event()
        self._late: dict[TopicId, int] = {}
        self._flushing: set[LocalPartition] = set()
        self._loaded: dict[Segment, None] = {}
        self._timers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        tasks = self.engine.tasks
        self._timers = [
            tasks.start(self._checkpoints(), name="checkpoints"),
            tasks.start(self._retention(), name="retention"),
        ]

    async def stop(self) -> None:
        """No more timers; what they have begun is finished."""
        async with self.busy:
            for timer in self._timers:
                timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)

    # Called by partitions

    def sealed(self, partition: LocalPartition, segment: Segment) -> None:
        self._wanted.set()

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

    def loaded(self, segment: Segment, index: OffsetIndex) -> None:
        """A sealed segment's index was read for somebody: the next reader finds it, while it is among the last used."""
        segment.index = index
        self._loaded[segment] = None
        while len(self._loaded) > self.engine.settings.loaded_indexes_max:
            oldest = next(iter(self._loaded))
            del self._loaded[oldest]
            oldest.index = oldest.time_index = None

    def hurry(self) -> None:
        """A configuration was changed: look at retention now."""
        self._retention_wanted.set()

    # Checkpoints

    async def _checkpoints(self) -> None:
        clock, interval_ms = self.engine.clock, self.engine.settings.checkpoint_interval_ms
        while True:
            await self._timer(interval_ms, self._wanted)
            self._wanted.clear()
            try:
                await self.checkpoint()
            except (OSError, RiverlogError) as error:
                log.error("the checkpoint could not be written: %s; it is tried again", error)
            await clock.sleep(checkpoint_spacing_s)

    async def _timer(self, interval_ms: int, event: asyncio.Event) -> None:
        """Until the time is over or the event is set."""
        sleeping = asyncio.get_running_loop().create_task(self.engine.clock.sleep(interval_ms / 1000))
        waiting = asyncio.get_running_loop().create_task(event.wait())
        try:
            await asyncio.wait((sleeping, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waiting.cancel()

    async def first_checkpoint(self, marks: Mapping[PartitionId, PartitionMark]) -> None:
        """At the end of recovery: no longer clean, the new leader epochs are in it, and what was recovered is saved."""
        for partition in self.engine.partitions.values():
            if (mark := marks.get(partition.id)) is not None:
                partition.mark = mark
        await self.checkpoint(epochs_changed=True)

    async def last_checkpoint(self) -> None:
        """Of a clean stop. Where it cannot be written the next start is as after a crash, which is safe."""
        for _ in range(2):  # the second time without the partition that could not be synced
            try:
                await self.checkpoint(clean=True)
                return
            except (OSError, RiverlogError) as error:
                log.error("the last checkpoint could not be written: %s", error)

    async def checkpoint(self, *, clean: bool = False, epochs_changed: bool = False) -> None:
        """Raises OSError, or RiverlogError where a sync failed on the way; the old checkpoint is good then."""
        async with self.busy:
            engine = self.engine
            savings = [
                self._capture(partition)
                for partition in engine.partitions.values()
                if partition.failure is None and self._is_behind(partition)
            ]
            await self._durable(savings)
            savings = [saving for saving in savings if saving.partition.failure is None]
            if savings:
                await engine.maintenance.run(partial(save, engine.files, savings))
            old = self._settle(savings)
            marks: list[PartitionMark] = []
            for partition in engine.partitions.values():
                if partition.mark is not None:
                    partition.mark = partition.mark._replace(leader_epoch=partition.leader_epoch)
                    marks.append(partition.mark)
                elif epochs_changed or clean or partition.leader_epoch:
                    marks.append(empty_mark(partition))
            self.generation += 1
            content = checkpoint.encode(Checkpoint(clean, self.generation, marks))
            path = f"{engine.directory}/{names.CHECKPOINT}"
            await engine.maintenance.run(partial(replace_file, engine.files, path, content))
            engine.counters.checkpoints += 1
            if old:
                await engine.maintenance.run(partial(remove_quietly, engine.files, old))

    @staticmethod
    def _is_behind(partition: LocalPartition) -> bool:
        if (mark := partition.mark) is None:
            return bool(partition.segments)
        active = partition.bases[-1] if partition.bases else partition.log_end
        return (mark.recovery_offset, mark.log_start, mark.recovery_segment) != (
            partition.log_end,
            partition.log_start,
            active,
        ) or partition.unsaved_epochs

    def _capture(self, partition: LocalPartition) -> Saving:
        """What is true of the partition now: the new parts of its indexes, its producers, its end."""
        indexes: list[tuple[Segment, str, bytes, int]] = []
        entries: list[tuple[Segment, int, int]] = []
        for segment in partition.segments:
            if segment.saved or segment.index is None or segment.time_index is None:
                continue
            segment.seal_time_index()  # an entry for now: the largest timestamp is found again
            index, times = segment.index, segment.time_index
            count, time_count = len(index), len(times)
            if count > segment.saved_entries or not segment.saved_entries:
                data = index.encode(segment.saved_entries)
                indexes.append((segment, segment.index_path, data, segment.saved_entries * 8))
            if time_count > segment.saved_times or not segment.saved_times:
                data = times.encode(segment.saved_times)
                indexes.append((segment, segment.time_index_path, data, segment.saved_times * 12))
            entries.append((segment, count, time_count))
        active = partition.segments[-1] if partition.segments else None
        mark = PartitionMark(
            partition.id,
            partition.leader_epoch,
            partition.log_start,
            partition.log_end,
            active.base_offset if active is not None else partition.log_end,
            Position(active.size if active is not None else 0),
            tuple(
                SegmentMark(
                    segment.base_offset, segment.size, Offset(segment.next_offset - 1), max(segment.max_timestamp, -1)
                )
                for segment in partition.segments[:-1]
            ),
        )
        epochs = partition.epochs.encode() if partition.unsaved_epochs else None
        return Saving(
            partition=partition,
            mark=mark,
            indexes=indexes,
            entries=entries,
            epochs=epochs,
            producers=list(partition.producers.entries()),
        )

    async def _durable(self, savings: Sequence[Saving]) -> None:
        """Until every partition is durable up to what was captured of it."""
        engine = self.engine
        waiter = CutWaiter(asyncio.get_running_loop())
        for saving in savings:
            partition = saving.partition
            if partition.durable.offset < saving.mark.recovery_offset:
                waiter.missing += 1
                partition.wait(saving.mark.recovery_offset, waiter, 0)
                engine.commit.dirty(partition, Lane.BULK)
        if waiter.missing:
            await waiter.future

    def _settle(self, savings: Sequence[Saving]) -> list[str]:
        """Notes what is saved. Gives the snapshots that nobody needs once the checkpoint stands."""
        old: list[str] = []
        for saving in savings:
            partition, mark = saving.partition, saving.mark
            for segment, count, time_count in saving.entries:
                segment.saved_entries, segment.saved_times = count, time_count
                if segment is not partition.segments[-1] and segment.base_offset != mark.recovery_segment:
                    segment.saved = True
                    self._loaded[segment] = None
            if saving.epochs == partition.epochs.encode():
                partition.unsaved_epochs = False
            partition.mark = mark
            offset = mark.recovery_offset
            for other in partition.snapshot_offsets:
                if other != offset or not saving.producers:
                    name = names.segment_file_name(Offset(other), names.SNAPSHOT)
                    old.append(f"{partition.directory}/{name}")
            partition.snapshot_offsets = [offset] if saving.producers else []
        while len(self._loaded) > self.engine.settings.loaded_indexes_max:
            oldest = next(iter(self._loaded))
            del self._loaded[oldest]
            oldest.index = oldest.time_index = None
        return old

    # A failed sync

    def sync_failed(self, pending: Pending) -> None:
        """The page cache is not believed any more: the partition takes nothing until it is cut back."""
        partition, engine = pending.partition, self.engine
        error = pending.error
        engine.counters.failed_syncs += 1
        partition.abandon_commit(pending)
        if partition.failure is not None:
            return
        partition.failure = RiverlogError(
            ErrorKind.STORAGE,
            f"{partition.name} could not be synced ({error}); it is cut back to {partition.durable.offset}",
        )
        log.error("%s", partition.failure.message)
        partition.fail_waiters(partition.failure)
        engine.commit.forget(partition)
        engine.tasks.start(self._cut_back(partition), name=f"cut back {partition.name}")

    async def _cut_back(self, partition: LocalPartition) -> None:
        """To the end of the last successful commit, on disk first; then everything else is read again from there."""
        engine = self.engine
        async with self.busy:
            if engine.partitions.get(partition.id) is not partition:
                return
            durable = partition.durable
            base = durable.segment.base_offset if durable.segment is not None else -1
            for segment in partition.segments:
                engine.descriptors.doom(segment)
            topic = engine.topics[partition.id.topic_id]
            fresh = LocalPartition(engine.world, topic, partition.id.index, engine.topics_directory)
            fresh.mark = partition.mark
            epoch = LeaderEpoch(partition.leader_epoch + 1)
            try:
                await engine.readers.run(partial(cut_files, engine.files, partition.directory, base, durable.position))
                await engine.readers.run(partial(recover, fresh, partition.mark, False))
                if fresh.failure is not None:
                    raise OSError(fresh.failure.message)
                fresh.epochs.assign(epoch, fresh.log_end)
                path = f"{partition.directory}/{names.LEADER_EPOCHS}"
                await engine.readers.run(partial(replace_file, engine.files, path, fresh.epochs.encode()))
            except (OSError, RiverlogError) as error:
                message = f"{partition.name} is offline: {error}; repair the disk and start again"
                partition.failure = RiverlogError(ErrorKind.STORAGE, message)
                engine.counters.offline_partitions += 1
                log.error("%s", message)
                return
            engine.counters.unsynced_bytes -= partition.unsynced_bytes
            partition.adopt(fresh, epoch)
            log.warning(
                "%s was cut back to %d and goes on with leader epoch %d", partition.name, partition.log_end, epoch
            )
        engine.alarm.moved(partition)

    # Retention

    async def _retention(self) -> None:
        settings = self.engine.settings
        while True:
            await self._timer(settings.retention_check_interval_ms, self._retention_wanted)
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
            self._loaded.pop(segment, None)
            self.engine.descriptors.doom(segment)
        self.engine.tasks.start(self._remove_segments(doomed, partition.config.file_delete_delay_ms), name="removal")

    async def _remove_segments(self, doomed: Sequence[Segment], delay_ms: int) -> None:
        """The new log start is durable first: else some of them might come back after a crash, and leave a hole."""
        files = self.engine.files
        try:
            await self.checkpoint()
        except (OSError, RiverlogError) as error:
            log.error("the checkpoint could not be written: %s; retention goes on", error)
        paths = await self.engine.maintenance.run(partial(rename_segments, files, [one.path for one in doomed]))
        await self.engine.clock.sleep(delay_ms / 1000)
        await self.engine.maintenance.run(partial(remove_quietly, files, paths))

    async def delete_before(self, partition: LocalPartition, offset: Offset) -> Offset:
        """Kafka's DeleteRecords: up to the high watermark; segments that hold nothing else go with the next retention."""
        target = partition.high.offset if offset == -1 else offset
        if not 0 <= target <= partition.high.offset:
            raise RiverlogError(
                ErrorKind.OFFSET_OUT_OF_RANGE,
                f"{partition.name} is readable up to {partition.high.offset}, {offset} lies behind that",
            )
        if target > partition.log_start:
            partition.log_start = Offset(target)
            await self.checkpoint()
            self._retention_wanted.set()
        return partition.log_start

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
                self._loaded.pop(segment, None)
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


def empty_mark(partition: LocalPartition) -> PartitionMark:
    """Of a partition without a file: only its leader epoch is to be kept."""
    end = partition.log_end
    return PartitionMark(partition.id, partition.leader_epoch, partition.log_start, end, end, Position(0))


# On a thread


def remove_quietly(files: Files, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            files.remove(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("%s could not be removed: %s", path, error)


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


def cut_files(files: Files, directory: str, base_offset: int, position: int) -> None:
    """Makes a partition's files end at that byte of that segment (-1: no segment stays), durably. Raises OSError."""
    for name in files.list(directory):
        parsed = names.parse_segment_file_name(name)
        if (
            parsed is not None
            and parsed.suffix == names.LOG
            and not parsed.deleted
            and parsed.base_offset > base_offset
        ):
            files.remove(f"{directory}/{name}")
    if base_offset >= 0:
        file = files.open(f"{directory}/{names.segment_file_name(Offset(base_offset), names.LOG)}")
        try:
            file.truncate(position)
            file.sync()
        finally:
            file.close()
    files.sync_directory(directory)
