"""The in-memory twin of a log engine: what `riverlog.Broker()` runs on, and what a test trusts because it passes the same
conformance suite.

Two settings. *At once*: every answer is there when the call returns. *Late*: offsets, answers, wake-ups and watermarks come
turns of the loop after the call, and every read is awaited, as with a cluster. Invariant: an append takes its place when
it is called, in both. Nothing survives the process; retention by size works at each append, by time on a timer.
Not here: files, syncs, leader epochs above 0; one partition by itself (`memory_partition.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NodeId, Offset, PartitionId, ProducerId, TopicId
from riverlog.base.units import DAY_MS, MINUTE_MS
from riverlog.env.clock import Clock, SystemClock
from riverlog.env.tasks import Tasks
from riverlog.storage.answers import not_readable, out_of_range, states_of, unknown
from riverlog.storage.contract import (
    NO_SLICES,
    Acks,
    Append,
    Appended,
    EndMarker,
    EpochEnd,
    Fence,
    Fetched,
    FetchedPartition,
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
from riverlog.storage.memory_partition import NOTHING_ABORTED, MemoryPartition, MemorySubscription

late_turns: Final = 3  # of the loop, between a call and what it does in the setting *late*
retention_check_interval_ms: Final = 5 * MINUTE_MS
NO_OFFSET: Final = Offset(-1)
FIRST_NODE: Final = NodeId(1)


class MemoryEngine:
    """Made on any thread, used on one loop."""

    def __init__(
        self, *, clock: Clock | None = None, late: bool = False, node_id: NodeId = FIRST_NODE, starts: int = 1
    ) -> None:
        self.node_id = node_id
        self.starts = starts
        self.late = late
        self.clock: Clock = clock or SystemClock()
        self.partitions: dict[PartitionId, MemoryPartition] = {}
        self.topics: dict[TopicId, TopicLog] = {}
        self.tasks = Tasks("storage")
        self._retaining = False
        self._due: dict[MemorySubscription, None] = {}
        self._arriving: deque[Callable[[], None]] = deque()

    # Topics

    async def open_topic(self, topic: TopicLog) -> None:
        if not self._retaining:
            self._retaining = True
            self.tasks.start(self._retention(), name="retention")
        self.topics[topic.topic_id] = topic
        for index in range(topic.partition_count):
            partition_id = PartitionId(topic.topic_id, index)
            if partition_id not in self.partitions:
                self.partitions[partition_id] = MemoryPartition(topic, index)
        self.configure(topic.topic_id, topic.config)

    def configure(self, topic_id: TopicId, config: LogConfig) -> None:
        if (topic := self.topics.get(topic_id)) is None:
            raise unknown(topic_id)
        now_ms = self.clock.now_ms()
        for index in range(topic.partition_count):
            partition = self.partitions[PartitionId(topic_id, index)]
            partition.config = config
            partition.retain(now_ms)

    async def delete_topic(self, topic_id: TopicId) -> None:
        if (topic := self.topics.pop(topic_id, None)) is None:
            return
        for index in range(topic.partition_count):
            partition = self.partitions.pop(PartitionId(topic_id, index))
            partition.gone = RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"topic {topic.name} was deleted")
            self._moved(partition)

    async def _retention(self) -> None:
        while True:
            await self.clock.sleep(retention_check_interval_ms / 1000)
            self.retain()

    def retain(self) -> None:
        """One look at every partition."""
        now_ms = self.clock.now_ms()
        for partition in self.partitions.values():
            partition.retain(now_ms)
            partition.producers.expire(now_ms, DAY_MS)

    def _partition(self, partition_id: PartitionId) -> MemoryPartition:
        if (partition := self.partitions.get(partition_id)) is None:
            raise unknown(partition_id.topic_id)
        return partition

    # Lateness

    def _arrive(self, work: Callable[[], None]) -> None:
        """Runs `work` some turns of the loop from now, in the order of the calls."""
        self._arriving.append(work)
        self._turn(late_turns)

    def _turn(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._turn, left - 1)
        else:
            self._arriving.popleft()()

    async def _some_turns(self) -> None:
        if self.late:
            arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._arrive(lambda: None if arrived.done() else arrived.set_result(None))
            await arrived

    # Records

    def append(
        self, appends: Sequence[Append], acks: Acks, fences: Sequence[Fence] = ()
    ) -> Sequence[Appended | Refused] | Awaitable[Sequence[Appended | Refused]]:
        for fence in fences:
            if fence.epoch != self.starts:
                lost = RiverlogError(ErrorKind.FENCE_LOST, f"the lease of {fence.scope} is of epoch {fence.epoch}")
                return [Refused(lost)] * len(appends)
        if not self.late:
            return self._append(appends)
        kept = [Append(one.partition, bytes(one.batch), one.header) for one in appends]
        answer: asyncio.Future[Sequence[Appended | Refused]] = asyncio.get_running_loop().create_future()

        def arrive() -> None:
            answers = self._append(kept)
            if not answer.done():
                answer.set_result(answers)

        self._arrive(arrive)
        return answer

    def _append(self, appends: Sequence[Append]) -> list[Appended | Refused]:
        now_ms = self.clock.now_ms()
        answers: list[Appended | Refused] = []
        for partition_id, batch, header in appends:
            partition = self.partitions.get(partition_id)
            if partition is None:
                answers.append(Refused(unknown(partition_id.topic_id)))
                continue
            answers.append(partition.append(batch, header, now_ms))
            if partition.subscribers:
                self._moved(partition)
        return answers

    def end_transactions(self, markers: Sequence[EndMarker]) -> Awaitable[Sequence[Appended | Refused]]:
        answer: asyncio.Future[Sequence[Appended | Refused]] = asyncio.get_running_loop().create_future()

        def arrive() -> None:
            answers = self._end_transactions(markers)
            if not answer.done():
                answer.set_result(answers)

        if self.late:
            self._arrive(arrive)
        else:
            arrive()
        return answer

    def _end_transactions(self, markers: Sequence[EndMarker]) -> list[Appended | Refused]:
        now_ms = self.clock.now_ms()
        answers: list[Appended | Refused] = []
        for marker in markers:
            if (partition := self.partitions.get(marker.partition)) is None:
                answers.append(Refused(unknown(marker.partition.topic_id)))
                continue
            answers.append(partition.end_transaction(marker, now_ms))
            self._moved(partition)
        return answers

    def _moved(self, partition: MemoryPartition) -> None:
        if partition.subscribers:
            if not self._due:
                asyncio.get_running_loop().call_soon(self._ring)
            self._due.update(partition.subscribers)

    def _ring(self) -> None:
        due, self._due = self._due, {}
        for subscription in due:
            if (wake := subscription.wake) is not None:
                wake()

    def read(self, reads: Sequence[Read], bytes_max: int, isolation: Isolation) -> Fetched | Awaitable[Fetched]:
        return self._read_late(reads, bytes_max, isolation) if self.late else self._read(reads, bytes_max, isolation)

    async def _read_late(self, reads: Sequence[Read], bytes_max: int, isolation: Isolation) -> Fetched:
        await self._some_turns()
        return self._read(reads, bytes_max, isolation)

    def _read(self, reads: Sequence[Read], bytes_max: int, isolation: Isolation) -> Fetched:
        answers: list[FetchedPartition] = []
        size = 0
        for read in reads:
            answer = self._read_one(read, min(read.bytes_max, bytes_max - size), isolation, size == 0)
            answers.append(answer)
            size += answer.slices.size
        return Fetched(answers, size)

    def _read_one(self, read: Read, limit: int, isolation: Isolation, first: bool) -> FetchedPartition:
        if (partition := self.partitions.get(read.partition)) is None:
            error = unknown(read.partition.topic_id)
            return FetchedPartition(NO_SLICES, NO_OFFSET, NO_OFFSET, NO_OFFSET, None, error)
        marks = partition.watermarks()
        refused = out_of_range(partition.name, marks.log_start, marks.log_end, read.offset)
        if refused is not None:
            return FetchedPartition(
                NO_SLICES, marks.high_watermark, marks.high_watermark, marks.log_start, None, refused
            )
        committed = isolation is Isolation.READ_COMMITTED
        slices, aborted = NO_SLICES, NOTHING_ABORTED
        if limit > 0 or first:
            end = marks.last_stable_offset if committed else marks.high_watermark
            slices, aborted = partition.read(read.offset, limit, first, end)
        return FetchedPartition(
            slices,
            marks.high_watermark,
            marks.last_stable_offset,
            marks.log_start,
            aborted if committed else None,
        )

    def watermarks(self, partition: PartitionId) -> Watermarks:
        return self._partition(partition).watermarks()

    def is_visible(self, partition: PartitionId, producer_id: ProducerId) -> bool:
        self._partition(partition)
        return not self._arriving

    async def cut(self, partitions: Sequence[PartitionId], isolation: Isolation) -> Mapping[PartitionId, Offset]:
        await self._some_turns()
        ends: dict[PartitionId, Offset] = {}
        for partition_id in partitions:
            marks = self._partition(partition_id).watermarks()
            committed = isolation is Isolation.READ_COMMITTED
            ends[partition_id] = marks.last_stable_offset if committed else marks.high_watermark
        return ends

    def subscribe(self, partitions: Sequence[PartitionId], wake: Callable[[], None]) -> MemorySubscription:
        found = [self.partitions.get(partition_id) for partition_id in partitions]
        return MemorySubscription([partition for partition in found if partition is not None], wake)

    async def offset_for_time(self, partition: PartitionId, timestamp_ms: int) -> TimestampedOffset | None:
        await self._some_turns()
        return self._partition(partition).first_at(timestamp_ms)

    async def offset_of_max_timestamp(self, partition: PartitionId) -> TimestampedOffset | None:
        await self._some_turns()
        return self._partition(partition).newest()

    async def delete_before(self, partition: PartitionId, offset: Offset) -> Offset:
        await self._some_turns()
        found = self._partition(partition)
        target = found.log_end if offset == -1 else offset
        if not 0 <= target <= found.log_end:
            raise not_readable(found.name, found.log_end, offset)
        found.log_start = max(found.log_start, Offset(target))
        found.retain(None)
        self._moved(found)  # what held back the last stable offset may be gone
        return found.log_start

    def epoch_end(self, partition: PartitionId, leader_epoch: int) -> EpochEnd:
        end = self._partition(partition).log_end
        return EpochEnd(0, end) if leader_epoch == 0 else EpochEnd(-1, NO_OFFSET)

    # Operation

    def producers(self, partition: PartitionId) -> Sequence[ProducerState]:
        return states_of(self._partition(partition).producers)

    def size(self, partition: PartitionId) -> LogSize:
        found = self._partition(partition)
        return LogSize(found.size, 1, found.log_start, found.log_end)

    async def volume(self) -> None:
        return None

    def room(self) -> Awaitable[None] | None:
        return None

    async def close(self) -> None:
        while self._arriving:
            await self._some_turns()
        await self.tasks.close()
