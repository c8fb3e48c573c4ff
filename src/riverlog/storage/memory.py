"""The in-memory twin of a log engine: what `riverlog.Broker()` runs on, and what a test trusts because it passes the same
conformance suite.

Two settings. *At once*: every answer is there when the call returns. *Late*: offsets, answers, wake-ups and watermarks come
turns of the loop after the call, and every read is awaited, as with a cluster. Invariant: an append takes its place when
it is called, in both. Nothing survives the process; retention by size works at each append, by time on a timer.
Not here: files, syncs, leader epochs above 0.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NodeId, Offset, PartitionId, TopicId
from riverlog.base.units import DAY_MS, MINUTE_MS
from riverlog.env.clock import Clock, SystemClock
from riverlog.env.tasks import Tasks
from riverlog.records.batch import first_record_at_or_after, max_timestamp_of, records_of
from riverlog.records.builder import end_marker
from riverlog.records.control import ControlType
from riverlog.records.header import BatchHeader, read_header
from riverlog.state.producers import Duplicate, Producers
from riverlog.storage.aborted import Aborted
from riverlog.storage.answers import not_readable, out_of_range, states_of, unknown
from riverlog.storage.contract import (
    NO_SLICES,
    AbortedTransaction,
    Acks,
    Append,
    Appended,
    Buffer,
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
    Slices,
    TimestampedOffset,
    TopicLog,
    Watermarks,
)
from riverlog.storage.format.txn_index import AbortedEntry

late_turns: Final = 3  # of the loop, between a call and what it does in the setting *late*
retention_check_interval_ms: Final = 5 * MINUTE_MS
NO_OFFSET: Final = Offset(-1)
FIRST_NODE: Final = NodeId(1)
NOTHING_ABORTED: Final[Sequence[AbortedTransaction]] = ()


class MemoryPartition:
    """Batches as bytes, in order; `bases` are their base offsets."""

    __slots__ = (
        "aborted",
        "bases",
        "batches",
        "config",
        "gone",
        "headers",
        "id",
        "log_end",
        "log_start",
        "name",
        "producers",
        "size",
        "subscribers",
    )

    def __init__(self, topic: TopicLog, index: int) -> None:
        self.id = PartitionId(topic.topic_id, index)
        self.name = f"{topic.name}-{index}"
        self.config = topic.config
        self.batches: list[bytes] = []
        self.headers: list[BatchHeader] = []
        self.bases: list[int] = []
        self.log_start = Offset(0)
        self.log_end = Offset(0)
        self.size = 0
        self.producers = Producers()
        self.aborted = Aborted()
        self.subscribers: dict[MemorySubscription, None] = {}
        self.gone: RiverlogError | None = None

    def append(self, batch: Buffer, header: BatchHeader, now_ms: int) -> Appended | Refused:
        if self.gone is not None:
            return Refused(self.gone)
        verdict = self.producers.check(header)
        if isinstance(verdict, Duplicate):
            return Appended(verdict.base_offset, verdict.next_offset, self.log_start, True)
        if verdict is not None:
            return Refused(verdict, self.log_start)
        base_offset = self._write(batch, header)
        self.producers.apply(self.headers[-1], base_offset, now_ms)
        if self.config.cleanup_delete and 0 <= self.config.retention_bytes < self.size:
            self.retain(None)
        return Appended(base_offset, self.log_end, self.log_start)

    def end_transaction(self, marker: EndMarker, now_ms: int) -> Appended | Refused:
        if self.gone is not None:
            return Refused(self.gone)
        _, producer_id, epoch, committed, coordinator_epoch = marker
        verdict = self.producers.check_marker(producer_id, epoch, coordinator_epoch)
        if isinstance(verdict, RiverlogError):
            return Refused(verdict, self.log_start)
        if not verdict:
            return Appended(self.log_end, self.log_end, self.log_start, True)
        batch = end_marker(
            ControlType.COMMIT if committed else ControlType.ABORT,
            producer_id=producer_id,
            producer_epoch=epoch,
            coordinator_epoch=coordinator_epoch,
            timestamp_ms=now_ms,
        )
        base_offset = self._write(batch, read_header(batch))
        done = self.producers.end_transaction(self.headers[-1], base_offset, now_ms, coordinator_epoch)
        if done is not None and not committed:
            self.aborted.add(AbortedEntry(*done))
        return Appended(base_offset, self.log_end, self.log_start)

    def _write(self, batch: Buffer, header: BatchHeader) -> Offset:
        base_offset = self.log_end
        stamped = header._replace(base_offset=base_offset, leader_epoch=0)
        head = base_offset.to_bytes(8, "big") + bytes(memoryview(batch)[8:12]) + bytes(4)
        self.batches.append(head + memoryview(batch)[16:])
        self.headers.append(stamped)
        self.bases.append(base_offset)
        self.size += len(batch)
        self.log_end = Offset(stamped.next_offset)
        return base_offset

    def retain(self, now_ms: int | None) -> None:
        """Drops what has outlived the topic's retention: by size and start offset, by time where `now_ms` is given. What
        is open stays, but for what its user has deleted."""
        config, stable = self.config, self.stable_offset()
        oldest_ms = -1
        if now_ms is not None and config.cleanup_delete and config.retention_ms >= 0:
            oldest_ms = now_ms - config.retention_ms
        surplus = self.size - config.retention_bytes if config.cleanup_delete and config.retention_bytes >= 0 else -1
        count = freed = 0
        for header in self.headers:
            expired = 0 <= header.max_timestamp < oldest_ms
            stays = (not expired and surplus - freed < header.size) or header.next_offset > stable
            if header.next_offset > self.log_start and stays:
                break
            count += 1
            freed += header.size
        if count:
            self.log_start = max(self.log_start, Offset(self.headers[count - 1].next_offset))
            del self.batches[:count], self.headers[:count], self.bases[:count]
            self.size -= freed
            self.aborted.drop_before(self.log_start)

    def read(
        self, offset: Offset, bytes_max: int, first: bool, end_offset: Offset
    ) -> tuple[Slices, Sequence[AbortedTransaction]]:
        """Whole batches below `end_offset` from the one that holds `offset` on; one at least where it is the `first` of a
        fetch. And the aborted transactions that overlap them."""
        if offset >= end_offset or not self.batches:
            return NO_SLICES, ()
        at = end = max(0, bisect_right(self.bases, offset) - 1)
        size = 0
        for batch, header in zip(self.batches[at:], self.headers[at:], strict=True):
            if (size + len(batch) > bytes_max and not (first and size == 0)) or header.base_offset >= end_offset:
                break
            size += len(batch)
            end += 1
        if end == at:
            return NO_SLICES, ()
        aborted = self.aborted.overlapping(offset, Offset(self.headers[end - 1].next_offset))
        return Slices((self.batches[at] if end == at + 1 else b"".join(self.batches[at:end]),), size), aborted

    def stable_offset(self) -> Offset:
        return max(self.producers.last_stable_offset(self.log_end), self.log_start)

    def watermarks(self) -> Watermarks:
        return Watermarks(self.log_start, self.log_end, self.log_end, self.log_end, self.stable_offset(), 0)

    def first_at(self, timestamp_ms: int) -> TimestampedOffset | None:
        for header, batch in zip(self.headers, self.batches, strict=True):
            if header.max_timestamp < timestamp_ms or header.is_control or header.next_offset <= self.log_start:
                continue
            found = first_record_at_or_after(batch, header, timestamp_ms)
            if found is None:
                continue
            offset = Offset(header.base_offset + found.offset_delta)
            if offset >= self.log_start:
                return TimestampedOffset(offset, found.timestamp, 0)
            for record in records_of(batch, header):
                if record.offset >= self.log_start and record.timestamp_ms >= timestamp_ms:
                    return TimestampedOffset(Offset(record.offset), record.timestamp_ms, 0)
        return None

    def newest(self) -> TimestampedOffset | None:
        best: TimestampedOffset | None = None
        for header, batch in zip(self.headers, self.batches, strict=True):
            if header.is_control or (best is not None and header.max_timestamp <= best.timestamp_ms):
                continue
            found = max_timestamp_of(batch, header)
            if found is not None and header.base_offset + found.offset_delta >= self.log_start:
                best = TimestampedOffset(Offset(header.base_offset + found.offset_delta), found.timestamp, 0)
            elif header.next_offset > self.log_start:
                for record in records_of(batch, header):
                    if record.offset >= self.log_start and (best is None or record.timestamp_ms > best.timestamp_ms):
                        best = TimestampedOffset(Offset(record.offset), record.timestamp_ms, 0)
        return best


class MemorySubscription:
    def __init__(self, partitions: Sequence[MemoryPartition], wake: Callable[[], None]) -> None:
        self._partitions = partitions
        self.wake: Callable[[], None] | None = wake
        for partition in partitions:
            partition.subscribers[self] = None

    def close(self) -> None:
        self.wake = None
        for partition in self._partitions:
            partition.subscribers.pop(self, None)
        self._partitions = ()


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
