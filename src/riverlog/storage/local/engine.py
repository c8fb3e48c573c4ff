"""The local engine: the contract of `storage/contract.py` over one directory. See docs/guide/storage.md.

Invariants: the directory belongs to one process (flock); every answer is given on the loop; what blocks runs on a thread,
but for the one write of an append and what `make directory` costs at a partition's first. Built of: `partition.py` (the
log), `reading.py` and `searching.py` (looking), `group_commit.py` (durability), `opening.py` and `recovery.py` (start),
`upkeep.py` (checkpoints and retention).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, ProducerId, TopicId
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.env.executor import Executor, ThreadExecutor
from riverlog.env.files import FileLock, Files, Volume
from riverlog.env.tasks import Tasks
from riverlog.records.header import TRANSACTIONAL_BIT
from riverlog.storage.answers import states_of, unknown
from riverlog.storage.contract import (
    Acks,
    Append,
    Appended,
    Durability,
    EndMarker,
    EpochEnd,
    Fence,
    Fetched,
    Isolation,
    LogConfig,
    LogSize,
    ProducerState,
    Read,
    Refused,
    TimestampedOffset,
    TopicLog,
    Watermarks,
)
from riverlog.storage.format import lock, names
from riverlog.storage.format.meta import Meta
from riverlog.storage.local import opening, searching
from riverlog.storage.local.catchup import Catchup
from riverlog.storage.local.checkpoints import Checkpoints
from riverlog.storage.local.committing import Pending, end
from riverlog.storage.local.compacting import Compacting
from riverlog.storage.local.counters import Counters
from riverlog.storage.local.cutting import sync_failed
from riverlog.storage.local.ending import end_transactions
from riverlog.storage.local.fetching import Fetching
from riverlog.storage.local.group_commit import GroupCommit, Lane, gather_bytes_max
from riverlog.storage.local.partition import LocalPartition, World
from riverlog.storage.local.segments import Descriptors, Segment
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.local.subscriptions import Alarm, Subscribed
from riverlog.storage.local.upkeep import Upkeep
from riverlog.storage.local.waiting import AppendWaiter, CutWaiter
from riverlog.storage.local.waking import index_again

log = logging.getLogger(__name__)

ExecutorFactory = Callable[[str, int], Executor]


class LocalEngine:
    """Use `LocalEngine.open`."""

    def __init__(
        self,
        directory: str,
        settings: LocalSettings,
        meta: Meta,
        held: FileLock,
        *,
        files: Files,
        clock: Clock,
        entropy: Entropy,
        executors: ExecutorFactory,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.node_id = meta.node_id
        self.cluster_id = meta.cluster_id
        self.starts = meta.starts  # the epoch of every lease, and of every fence
        self.files = files
        self.clock = clock
        self.counters = Counters()
        self.partitions: dict[PartitionId, LocalPartition] = {}
        self.topics: dict[TopicId, TopicLog] = {}
        self.topics_directory = f"{directory}/{names.TOPICS}"
        self._lock = held
        self._loop = asyncio.get_running_loop()
        self.descriptors = Descriptors(files, settings.open_files_max or files.open_files_max())
        self.alarm = Alarm(self._loop)
        self.readers = executors("read", settings.read_threads)
        self.catchup = Catchup(self, executors("catch-up", settings.catchup_threads + 1))
        self.maintenance = executors("upkeep", 1)
        self._syncers = [executors("sync", settings.sync_threads), executors("sync-bulk", settings.sync_threads)]
        self._settler = executors("settle", 1)
        self.commit = GroupCommit(
            files,
            self._syncers,
            self._settler,
            settings.sync_threads,
            self.counters,
            self._committed,
            self._loop.call_soon,
            self._loop.call_later,
        )
        self.tasks = Tasks("storage")
        self.checkpoints = Checkpoints(self)
        self.remover = executors("removal", 1)
        self.upkeep = Upkeep(self)
        self.compacting = Compacting(self, executors("compaction", max(1, settings.cleaner_threads)))
        self.world = World(
            files,
            clock,
            self.descriptors,
            self.counters,
            self.alarm.moved,
            self.upkeep.preallocation.begun,
            self.upkeep.sealed,
            self.upkeep.late,
            self._unindexed,
            entropy,
        )
        self._fetching = Fetching(self)
        self._waiting_for_room: list[asyncio.Future[None]] = []
        self._closed = False

    @classmethod
    async def open(
        cls,
        directory: str,
        settings: LocalSettings,
        *,
        files: Files,
        clock: Clock,
        entropy: Entropy,
        executors: ExecutorFactory = ThreadExecutor,
        topics: Sequence[TopicLog] | Callable[[], Awaitable[Sequence[TopicLog]]],
    ) -> LocalEngine:
        """Takes the directory, recovers every partition of `topics` (a function is called once the directory is ours),
        and serves. Raises RiverlogError (STORAGE) where
        another process has the directory (the message names it) or its metadata cannot be read, OSError from the disk."""
        held = opening.take(files, directory)
        engine: LocalEngine | None = None
        try:
            meta = opening.read_meta(files, directory, settings, entropy)
            engine = cls(directory, settings, meta, held, files=files, clock=clock, entropy=entropy, executors=executors)
            await opening.open_all(engine, await topics() if callable(topics) else topics)
        except BaseException:
            if engine is not None:
                await engine.tasks.close()
                engine._let_go()
            else:
                held.release()
            raise
        engine.upkeep.start()
        engine.compacting.start()
        return engine

    def announce(self, addresses: Mapping[str, str]) -> None:
        """Writes into the lock file where this process listens, for whoever is refused the directory."""
        self._lock.write(lock.encode(lock.LockContent(os.getpid(), dict(addresses))))

    # Topics

    async def open_topic(self, topic: TopicLog) -> None:
        await opening.open_topic(self, topic)

    def configure(self, topic_id: TopicId, config: LogConfig) -> None:
        if (topic := self.topics.get(topic_id)) is None:
            raise unknown(topic_id)
        self.topics[topic_id] = TopicLog(
            topic_id=topic_id, name=topic.name, partition_count=topic.partition_count, config=config
        )
        for index in range(topic.partition_count):
            partition = self.partitions[PartitionId(topic_id, index)]
            partition.configure(config)
            partition.set_durability(config.durability)
            if partition.unsynced_bytes and config.durability is Durability.FSYNC:
                self.commit.dirty(partition, Lane.BULK)  # of page-cache, perhaps: readers have seen it
        self.upkeep.hurry()

    async def delete_topic(self, topic_id: TopicId) -> None:
        if (topic := self.topics.pop(topic_id, None)) is None:
            return
        gone = RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"topic {topic.name} was deleted")
        doomed: list[LocalPartition] = []
        for index in range(topic.partition_count):
            partition = self.partitions.pop(PartitionId(topic_id, index))
            partition.failure = gone
            doomed.append(partition)
            self.commit.gone(partition, gone)
            partition.fail_waiters(gone)
            self.alarm.moved(partition)
            self.counters.unsynced_bytes -= partition.unsynced_bytes
            partition.unsynced_bytes = 0
            for segment in partition.segments:
                self.descriptors.doom(segment)
        self._admit()
        await self.upkeep.remove_topic(topic, doomed)

    def _unindexed(self, partition: LocalPartition, segment: Segment) -> None:
        self.tasks.start(index_again(self, partition, segment), name=f"indexes of {segment.path}")

    def _partition(self, partition_id: PartitionId) -> LocalPartition:
        if (partition := self.partitions.get(partition_id)) is None:
            raise unknown(partition_id.topic_id)
        if partition.failure is not None:
            raise partition.failure
        return partition

    # Appending

    def append(
        self, appends: Sequence[Append], acks: Acks, fences: Sequence[Fence] = ()
    ) -> Sequence[Appended | Refused] | Awaitable[Sequence[Appended | Refused]]:
        for fence in fences:
            if fence.epoch != self.starts:
                lost = RiverlogError(ErrorKind.FENCE_LOST, f"the lease of {fence.scope} is of epoch {fence.epoch}")
                return [Refused(lost)] * len(appends)
        now_ms = self.clock.now_ms()
        answers: list[Appended | Refused] = []
        waiter: AppendWaiter | None = None
        for at, (partition_id, batch, header) in enumerate(appends):
            if (partition := self.partitions.get(partition_id)) is None:
                answers.append(Refused(unknown(partition_id.topic_id)))
                continue
            answer = partition.append(batch, header, now_ms)
            answers.append(answer)
            if isinstance(answer, Refused):
                self.counters.refused_batches += 1
                continue
            if partition.config.durability is Durability.FSYNC:
                if (
                    acks is Acks.ALL or header.attributes & TRANSACTIONAL_BIT
                ) and partition.durable.offset < answer.next_offset:
                    if waiter is None:
                        waiter = AppendWaiter(self._loop, answers)
                    waiter.missing += 1
                    partition.wait(answer.next_offset, waiter, at)
                    self.commit.dirty(partition, Lane.AWAITED)
                elif not answer.duplicate:
                    self._commit_unawaited(partition)
            else:
                self.appended_to_page_cache(partition)
        return answers if waiter is None else waiter.future

    def appended_to_page_cache(self, partition: LocalPartition) -> None:
        """With that durability nobody waits for a commit."""
        if (
            partition.unsynced_bytes >= self.settings.page_cache_unsynced_bytes_max
            or partition.unsynced_messages >= partition.config.flush_messages
        ):
            self.commit.dirty(partition, Lane.BULK)
        else:
            self.upkeep.flush_later(partition)

    def end_transactions(self, markers: Sequence[EndMarker]) -> Awaitable[Sequence[Appended | Refused]]:
        return end_transactions(self, self._loop, markers)

    def _commit_unawaited(self, partition: LocalPartition) -> None:
        """No producer waits for these bytes. A reader may: then at once; else when some have gathered."""
        if (
            partition.subscribers
            or partition.unsynced_bytes >= gather_bytes_max
            or partition.unsynced_messages >= partition.config.flush_messages
        ):
            self.commit.dirty(partition, Lane.BULK)
        else:
            self.commit.later(partition)

    def _committed(self, commit: Sequence[Pending]) -> None:
        for pending in commit:
            if pending.error is None:
                end(pending)
            else:
                sync_failed(self, pending)
        self._admit()

    def _admit(self) -> None:
        """Those who wait for room, if there is some."""
        if self._waiting_for_room and self.counters.unsynced_bytes < self.settings.unsynced_bytes_max:
            waiting, self._waiting_for_room = self._waiting_for_room, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def room(self) -> Awaitable[None] | None:
        if self.counters.unsynced_bytes < self.settings.unsynced_bytes_max:
            return None
        for partition in self.partitions.values():
            if partition.unsynced_bytes:
                self.commit.dirty(partition, Lane.BULK)
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting_for_room.append(future)
        return future

    # Reading

    def read(self, reads: Sequence[Read], bytes_max: int, isolation: Isolation) -> Fetched | Awaitable[Fetched]:
        return self._fetching.read(reads, bytes_max, isolation)

    # Looking

    def watermarks(self, partition: PartitionId) -> Watermarks:
        return self._partition(partition).watermarks()

    def is_visible(self, partition: PartitionId, producer_id: ProducerId) -> bool:
        chosen = self._partition(partition)
        return chosen.producers.end_of(producer_id) <= chosen.high.offset

    async def cut(self, partitions: Sequence[PartitionId], isolation: Isolation) -> Mapping[PartitionId, Offset]:
        waiter = CutWaiter(self._loop)
        chosen = [self._partition(partition_id) for partition_id in partitions]
        for partition in chosen:
            if partition.high.offset < partition.log_end:
                waiter.missing += 1
                partition.wait(partition.log_end, waiter, 0)
                self.commit.dirty(partition, Lane.AWAITED)
        if waiter.missing:
            await waiter.future
        ends: dict[PartitionId, Offset] = {}
        for partition in chosen:
            marks = partition.watermarks()
            committed = isolation is Isolation.READ_COMMITTED
            ends[partition.id] = marks.last_stable_offset if committed else marks.high_watermark
        return ends

    def subscribe(self, partitions: Sequence[PartitionId], wake: Callable[[], None]) -> Subscribed:
        known = [found for one in partitions if (found := self.partitions.get(one)) is not None]
        for partition in known:
            if partition.unsynced_bytes and partition.config.durability is Durability.FSYNC:
                self.commit.dirty(partition, Lane.BULK)  # a reader waits for what gathers
        return Subscribed(known, wake)

    async def offset_for_time(self, partition: PartitionId, timestamp_ms: int) -> TimestampedOffset | None:
        return await searching.offset_for_time(self, self._partition(partition), timestamp_ms)

    async def offset_of_max_timestamp(self, partition: PartitionId) -> TimestampedOffset | None:
        return await searching.offset_of_max_timestamp(self, self._partition(partition))

    async def delete_before(self, partition: PartitionId, offset: Offset) -> Offset:
        return await self.upkeep.delete_before(self._partition(partition), offset)

    def epoch_end(self, partition: PartitionId, leader_epoch: int) -> EpochEnd:
        return self._partition(partition).epoch_end(leader_epoch)

    def producers(self, partition: PartitionId) -> Sequence[ProducerState]:
        return states_of(self._partition(partition).producers)

    def size(self, partition: PartitionId) -> LogSize:
        return self._partition(partition).log_size()

    async def volume(self) -> Volume:
        return await self.readers.run(lambda: self.files.volume(self.directory))

    # The end

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self.compacting.stop()
        await self.upkeep.stop()
        for partition in self.partitions.values():
            if (partition.unsynced_bytes or partition.segments_only) and partition.failure is None:
                self.commit.dirty(partition, Lane.BULK)
        await self.commit.drain()
        await self.tasks.close()
        await self.checkpoints.write_last()
        await self.tasks.close()  # a sync that failed just now has begun a cut
        await self.upkeep.finish()
        self._let_go()

    def _let_go(self) -> None:
        closed = RiverlogError(ErrorKind.STORAGE, "the storage engine was closed: send it again after the next start")
        for partition in self.partitions.values():
            partition.failure = partition.failure or closed  # nothing may write into a directory that is no longer ours
            partition.fail_waiters(partition.failure)
        for waiting in self._waiting_for_room:
            if not waiting.done():
                waiting.set_result(None)
        threads = (self.catchup.executor, self.readers, self.maintenance, self.remover, self.compacting.executor, self._settler)
        for executor in (*threads, *self._syncers):
            executor.close()
        if self.commit.journal is not None:
            self.commit.journal.close()
        self.descriptors.close()
        self._lock.release()
