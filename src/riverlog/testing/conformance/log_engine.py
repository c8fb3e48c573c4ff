"""What every log engine must do, as tests. A subclass gives `open`; everything is asked through the contract alone.

    class TestMemoryEngine(LogEngineSuite):
        async def open(self, clock, topics): ...

Invariant: a test waits only on what the contract says can be waited on, so that it holds for engines that answer late.
Not here: what survives a crash (each durable engine has its own tests), speed.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicId, TopicName
from riverlog.env.clock import Clock
from riverlog.records.batch import records_of
from riverlog.records.builder import build_batch
from riverlog.records.compression import Compression
from riverlog.records.header import HEADER_BYTES, BatchHeader, read_header
from riverlog.records.record import NewRecord, Record
from riverlog.storage.contract import (
    Acks,
    Append,
    Appended,
    EpochEnd,
    Fence,
    Fetched,
    FetchedPartition,
    FileRegion,
    Isolation,
    LogConfig,
    LogEngine,
    Read,
    Refused,
    Slices,
    TopicLog,
)
from riverlog.testing.clock import ManualClock

T = TypeVar("T")

TOPIC: Final = TopicLog(topic_id=TopicId(b"topic-of-a-suite"), name=TopicName("rivers"), partition_count=3)
OTHER: Final = TopicLog(topic_id=TopicId(b"another-one-here"), name=TopicName("lakes"), partition_count=1)
P0, P1, P2 = (PartitionId(TOPIC.topic_id, index) for index in range(3))
NOBODY: Final = PartitionId(TopicId(b"nobody-knows-it!"), 0)
BYTES_MAX: Final = 1 << 20
UNCOMMITTED: Final = Isolation.READ_UNCOMMITTED


def batch_of(
    *values: str,
    timestamps: Sequence[int] = (),
    producer: tuple[int, int, int] | None = None,
    compression: Compression = Compression.NONE,
) -> bytearray:
    """A batch as a producer sends it. `producer`: id, epoch, first sequence."""
    producer_id, epoch, sequence = producer or (-1, -1, -1)
    times = timestamps or [1_700_000_000_000] * len(values)
    records = [NewRecord(time, None, value.encode()) for time, value in zip(times, values, strict=True)]
    return build_batch(
        records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, compression=compression
    )


def append_of(partition: PartitionId, *values: str, **more: Any) -> Append:
    batch = batch_of(*values, **more)
    return Append(partition, memoryview(batch), read_header(batch))


async def settled(answer: T | Awaitable[T]) -> T:
    """What was returned, or what was returned later."""
    if inspect.isawaitable(answer):
        return await asyncio.wait_for(answer, 10)
    return answer


async def appended(engine: LogEngine, appends: Sequence[Append], acks: Acks = Acks.ALL) -> Sequence[Appended | Refused]:
    return await settled(engine.append(appends, acks))


async def fill(engine: LogEngine, partition: PartitionId, *batches: Sequence[str]) -> None:
    """One batch for each, all durable at the end."""
    for values in batches:
        (answer,) = await appended(engine, [append_of(partition, *values)])
        assert isinstance(answer, Appended), answer


def content(slices: Slices) -> bytes:
    """What a socket would be given."""
    parts: list[bytes] = []
    for part in slices.parts:
        if isinstance(part, FileRegion):
            parts.append(os.pread(part.descriptor, part.count, part.position))
        else:
            parts.append(bytes(part))
    data = b"".join(parts)
    assert len(data) == slices.size
    return data


def batches_in(data: bytes) -> list[tuple[BatchHeader, bytes]]:
    """The whole batches of fetched bytes; a cut one at the end is left out, as clients do."""
    found: list[tuple[BatchHeader, bytes]] = []
    at = 0
    while len(data) - at >= HEADER_BYTES:
        header = read_header(data, at)
        if at + header.size > len(data):
            break
        found.append((header, data[at : at + header.size]))
        at += header.size
    return found


async def fetched(engine: LogEngine, *reads: Read, bytes_max: int = BYTES_MAX) -> tuple[Fetched, list[bytes]]:
    """The answer, closed, and the bytes of each partition."""
    answer = await settled(engine.read(reads, bytes_max, UNCOMMITTED))
    data = [content(partition.slices) for partition in answer.partitions]
    assert answer.size == sum(map(len, data))
    answer.close()
    return answer, data


async def fetched_one(
    engine: LogEngine, partition: PartitionId, offset: int, bytes_max: int = BYTES_MAX
) -> tuple[FetchedPartition, list[tuple[BatchHeader, bytes]]]:
    answer, (data,) = await fetched(engine, Read(partition, Offset(offset), bytes_max))
    return answer.partitions[0], batches_in(data)


async def records_in(engine: LogEngine, partition: PartitionId, offset: int = 0) -> list[Record]:
    """All visible records from an offset on, fetch by fetch, as a client reads them."""
    found: list[Record] = []
    while True:
        answer, batches = await fetched_one(engine, partition, offset, 200)
        assert answer.error is None, answer.error
        if not batches:
            return found
        for header, data in batches:
            found.extend(record for record in records_of(data, header) if record.offset >= offset)
            offset = header.next_offset


async def values_in(engine: LogEngine, partition: PartitionId, offset: int = 0) -> list[str]:
    return [(record.value or b"").decode() for record in await records_in(engine, partition, offset)]


def kind_of(refused: object) -> ErrorKind:
    assert isinstance(refused, Refused), refused
    return refused.error.kind


class LogSuite:
    """What the suites of log engines share: subclass them, name the subclass Test…, and give `open`."""

    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        raise NotImplementedError

    @asynccontextmanager
    async def running(self, *topics: TopicLog, clock: Clock | None = None) -> AsyncIterator[LogEngine]:
        engine = await self.open(clock or ManualClock(), topics or (TOPIC,))
        try:
            yield engine
        finally:
            await engine.close()

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(asyncio.wait_for(story(), 60))


class LogEngineSuite(LogSuite):
    """Topics, appends, reads, ends. Times are `log_times.py`."""

    # Appending

    def test_offsets_follow_the_order_of_the_calls(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                answers = [engine.append([append_of(P0, *"x" * count)], Acks.LEADER) for count in (1, 3, 2)]
                found = [(await settled(answer))[0] for answer in answers]
                assert found == [
                    Appended(Offset(0), Offset(1), Offset(0)),
                    Appended(Offset(1), Offset(4), Offset(0)),
                    Appended(Offset(4), Offset(6), Offset(0)),
                ]

        self.run(story)

    def test_a_call_with_several_partitions_answers_each_in_order(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P1, ["before"])
                first, unknown, second = await appended(
                    engine, [append_of(P1, "a"), append_of(NOBODY, "b"), append_of(P0, "c", "d")]
                )
                assert first == Appended(Offset(1), Offset(2), Offset(0))
                assert kind_of(unknown) is ErrorKind.UNKNOWN_TOPIC
                assert second == Appended(Offset(0), Offset(2), Offset(0))

        self.run(story)

    @pytest.mark.parametrize("kind", [bytearray, bytes, memoryview])
    def test_bytes_are_borrowed_only_until_append_returns(self, kind: type) -> None:
        async def story() -> None:
            async with self.running() as engine:
                sent = batch_of("kept")
                buffer = kind(sent)
                answer = engine.append([Append(P0, buffer, read_header(sent))], Acks.ALL)
                sent[:] = bytes(len(sent))
                await settled(answer)
                assert await values_in(engine, P0) == ["kept"]

        self.run(story)

    def test_only_offset_and_leader_epoch_of_a_batch_are_written(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["first"])
                sent = bytes(batch_of("second", "third"))
                await appended(engine, [Append(P0, sent, read_header(sent))])
                _, ((header, data),) = await fetched_one(engine, P0, 1)
                assert header.base_offset == 1
                assert header.leader_epoch == engine.watermarks(P0).leader_epoch
                assert data[8:12] + data[16:] == sent[8:12] + sent[16:]

        self.run(story)

    def test_what_was_answered_with_acks_all_is_visible(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a"], ["b"])
                marks = engine.watermarks(P0)
                assert (marks.log_end, marks.high_watermark, marks.last_stable_offset) == (2, 2, 2)
                assert await values_in(engine, P0) == ["a", "b"]

        self.run(story)

    def test_a_lost_fence_refuses_the_call_whole(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                lost = Fence("somebody's scope", 2**40)
                answers = await settled(engine.append([append_of(P0, "a"), append_of(P1, "b")], Acks.ALL, [lost]))
                assert [kind_of(answer) for answer in answers] == [ErrorKind.FENCE_LOST] * 2
                assert (await engine.cut([P0], UNCOMMITTED))[P0] == 0

        self.run(story)

    # Producers

    def test_a_duplicate_is_answered_with_its_old_offsets(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for sequence in range(0, 12, 2):
                    await appended(engine, [append_of(P0, "a", "b", producer=(7, 0, sequence))])
                (again,) = await appended(engine, [append_of(P0, "a", "b", producer=(7, 0, 2))])
                assert again == Appended(Offset(2), Offset(4), Offset(0), duplicate=True)
                assert engine.watermarks(P0).log_end == 12

        self.run(story)

    def test_sequences_out_of_order_and_old_epochs_are_refused(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await appended(engine, [append_of(P0, "a", producer=(7, 1, 0))])
                (gap,) = await appended(engine, [append_of(P0, "c", producer=(7, 1, 2))])
                (old,) = await appended(engine, [append_of(P0, "b", producer=(7, 0, 1))])
                assert kind_of(gap) is ErrorKind.OUT_OF_ORDER_SEQUENCE
                assert kind_of(old) is ErrorKind.INVALID_PRODUCER_EPOCH
                (state,) = engine.producers(P0)
                assert (state.producer_id, state.producer_epoch, state.last_sequence) == (7, 1, 0)

        self.run(story)

    def test_five_requests_in_flight_keep_their_order(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                waiting = [
                    engine.append([append_of(P0, str(at), producer=(7, 0, at))], Acks.ALL) for at in (0, 1, 2, 3, 4)
                ]
                waiting.append(engine.append([append_of(P0, "2", producer=(7, 0, 2))], Acks.ALL))
                answers = [(await settled(one))[0] for one in waiting]
                assert [one.base_offset for one in answers if isinstance(one, Appended)] == [0, 1, 2, 3, 4, 2]
                assert await values_in(engine, P0) == ["0", "1", "2", "3", "4"]

        self.run(story)

    # Reading

    def test_a_read_begins_with_the_batch_that_holds_the_offset(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a", "b", "c"], ["d", "e"], ["f"])
                for offset, base in enumerate((0, 0, 0, 3, 3, 5)):
                    answer, batches = await fetched_one(engine, P0, offset)
                    assert batches[0][0].base_offset == base
                    assert batches[-1][0].next_offset == 6
                    assert (answer.high_watermark, answer.log_start_offset) == (6, 0)

        self.run(story)

    def test_the_ends_of_a_log(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                answer, batches = await fetched_one(engine, P0, 0)
                assert (batches, answer.error) == ([], None)
                await fill(engine, P0, ["a", "b"])
                answer, batches = await fetched_one(engine, P0, 2)
                assert (batches, answer.error, answer.high_watermark) == ([], None, 2)
                for offset in (-1, 3):
                    answer, batches = await fetched_one(engine, P0, offset)
                    assert batches == []
                    assert answer.error is not None
                    assert answer.error.kind is ErrorKind.OFFSET_OUT_OF_RANGE
                    assert (answer.high_watermark, answer.log_start_offset) == (2, 0)
                answer, _ = await fetched_one(engine, NOBODY, 0)
                assert answer.error is not None
                assert answer.error.kind is ErrorKind.UNKNOWN_TOPIC

        self.run(story)

    def test_one_budget_for_a_whole_fetch_and_its_first_batch_whole(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for partition in (P0, P1):
                    await fill(engine, partition, ["x" * 500], ["y" * 500], ["z" * 500])
                size = len(batch_of("x" * 500))
                reads = [Read(P2, Offset(0), BYTES_MAX), Read(P0, Offset(0), BYTES_MAX), Read(P1, Offset(1), BYTES_MAX)]
                _, (none, first, second) = await fetched(engine, *reads, bytes_max=10)
                assert (none, second) == (b"", b"")
                assert len(batches_in(first)) == 1
                _, (_, first, second) = await fetched(engine, *reads, bytes_max=2 * size)
                assert 1 <= len(batches_in(first)) <= 2  # less than the budget is fine: a file may end there
                assert len(first) + len(second) <= 2 * size
                _, (_, first, second) = await fetched(engine, *reads, bytes_max=4 * size + 10)
                assert batches_in(first)
                assert batches_in(second)[0][0].base_offset == 1
                _, (first, second) = await fetched(engine, Read(P0, Offset(0), 10), Read(P1, Offset(0), 10))
                assert (len(batches_in(first)), second) == (1, b"")

        self.run(story)

    def test_every_record_is_read_whatever_the_budget(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                expected: list[str] = []
                for at in range(60):
                    values = [f"{at}.{inner}" + "-" * (at * 7 % 90) for inner in range(1 + at % 4)]
                    expected += values
                    await settled(engine.append([append_of(P0, *values)], Acks.LEADER))
                await engine.cut([P0], UNCOMMITTED)
                assert await values_in(engine, P0) == expected
                assert await values_in(engine, P0, 77) == expected[77:]
                found = await records_in(engine, P0)
                assert [record.offset for record in found] == list(range(len(expected)))

        self.run(story)

    def test_bytes_that_were_fetched_survive_their_topic(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a", "b"])
                answer = await settled(engine.read([Read(P0, Offset(0), BYTES_MAX)], BYTES_MAX, UNCOMMITTED))
                await engine.delete_topic(TOPIC.topic_id)
                ((header, data),) = batches_in(content(answer.partitions[0].slices))
                assert [record.value for record in records_of(data, header)] == [b"a", b"b"]
                answer.close()
                answer.close()

        self.run(story)

    def test_isolation_says_whether_aborted_transactions_are_told(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a"])
                reads = [Read(P0, Offset(0), BYTES_MAX)]
                plain = await settled(engine.read(reads, BYTES_MAX, Isolation.READ_UNCOMMITTED))
                committed = await settled(engine.read(reads, BYTES_MAX, Isolation.READ_COMMITTED))
                assert plain.partitions[0].aborted is None
                assert list(committed.partitions[0].aborted or ()) == []
                assert committed.partitions[0].aborted is not None
                plain.close()
                committed.close()

        self.run(story)

    # Waiting

    def test_a_subscriber_is_woken_for_its_partitions_until_it_closes(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                woken = asyncio.Event()
                others: list[str] = []
                subscription = engine.subscribe([P0, P1], woken.set)
                other = engine.subscribe([P2], lambda: others.append("woken"))
                await fill(engine, P1, ["a"])
                await asyncio.wait_for(woken.wait(), 10)
                assert engine.watermarks(P1).high_watermark == 1
                assert others == []
                subscription.close()
                other.close()
                woken.clear()
                again = asyncio.Event()
                witness = engine.subscribe([P1], again.set)
                await fill(engine, P1, ["b"])
                await asyncio.wait_for(again.wait(), 10)
                assert not woken.is_set()
                witness.close()

        self.run(story)

    def test_a_subscriber_is_woken_when_its_topic_goes(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                woken = asyncio.Event()
                subscription = engine.subscribe([P0], woken.set)
                await engine.delete_topic(TOPIC.topic_id)
                await asyncio.wait_for(woken.wait(), 10)
                subscription.close()

        self.run(story)

    def test_a_cut_covers_what_was_answered(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for partition, count in ((P0, 3), (P1, 1)):
                    for _ in range(count):
                        await settled(engine.append([append_of(partition, "a")], Acks.LEADER))
                ends = await asyncio.wait_for(engine.cut([P0, P1, P2], UNCOMMITTED), 10)
                assert ends == {P0: 3, P1: 1, P2: 0}
                assert await engine.cut([P0], Isolation.READ_COMMITTED) == {P0: 3}
                assert len(await values_in(engine, P0)) == 3
                with pytest.raises(RiverlogError) as caught:
                    await engine.cut([NOBODY], UNCOMMITTED)
                assert caught.value.kind is ErrorKind.UNKNOWN_TOPIC

        self.run(story)

    def test_there_is_room_after_everything_is_durable(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a"])
                if (room := engine.room()) is not None:
                    await asyncio.wait_for(room, 10)

        self.run(story)

    # The log start

    def test_a_changed_retention_is_obeyed_at_once(self) -> None:
        async def story() -> None:
            clock = ManualClock()
            async with self.running(clock=clock) as engine:
                recent = clock.now_ms() - 5000
                await appended(engine, [append_of(P0, "a", timestamps=[recent]), append_of(P1, "b", timestamps=[recent])])
                engine.configure(TOPIC.topic_id, LogConfig(retention_ms=6000))
                for _ in range(20):
                    await asyncio.sleep(0)
                assert engine.watermarks(P0).log_start == 0
                engine.configure(TOPIC.topic_id, LogConfig(retention_ms=4000))
                while [engine.watermarks(one).log_start for one in (P0, P1)] != [1, 1]:
                    await asyncio.sleep(0.001)
                await fill(engine, P0, ["c"])
                assert await values_in(engine, P0, 1) == ["c"]

        self.run(story)

    def test_records_before_an_offset_are_deleted(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a", "b", "c"], ["d", "e"])
                assert await engine.delete_before(P0, Offset(2)) == 2
                assert await engine.delete_before(P0, Offset(1)) == 2
                assert engine.watermarks(P0).log_start == 2
                assert await values_in(engine, P0, 2) == ["c", "d", "e"]
                answer, _ = await fetched_one(engine, P0, 1)
                assert answer.error is not None
                assert answer.error.kind is ErrorKind.OFFSET_OUT_OF_RANGE
                assert answer.log_start_offset == 2
                found = await engine.offset_for_time(P0, 0)
                assert found is not None
                assert found.offset == 2
                with pytest.raises(RiverlogError) as caught:
                    await engine.delete_before(P0, Offset(6))
                assert caught.value.kind is ErrorKind.OFFSET_OUT_OF_RANGE
                assert await engine.delete_before(P0, Offset(-1)) == 5
                (answered,) = await appended(engine, [append_of(P0, "f")])
                assert answered == Appended(Offset(5), Offset(6), Offset(5))
                assert await values_in(engine, P0, 5) == ["f"]
                assert engine.size(P0).log_start == 5

        self.run(story)

    # Topics

    def test_a_topic_grows(self) -> None:
        async def story() -> None:
            async with self.running(OTHER) as engine:
                await fill(engine, PartitionId(OTHER.topic_id, 0), ["a"])
                await engine.open_topic(
                    TopicLog(topic_id=OTHER.topic_id, name=OTHER.name, partition_count=2, config=LogConfig())
                )
                await fill(engine, PartitionId(OTHER.topic_id, 1), ["b"])
                await fill(engine, PartitionId(OTHER.topic_id, 0), ["c"])
                assert await values_in(engine, PartitionId(OTHER.topic_id, 0)) == ["a", "c"]
                assert await values_in(engine, PartitionId(OTHER.topic_id, 1)) == ["b"]

        self.run(story)

    def test_a_deleted_topic_is_unknown_and_its_name_is_free(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["old"])
                await engine.delete_topic(TOPIC.topic_id)
                await engine.delete_topic(TOPIC.topic_id)
                (answer,) = await appended(engine, [append_of(P0, "late")])
                assert kind_of(answer) is ErrorKind.UNKNOWN_TOPIC
                calls: Mapping[str, Callable[[], object]] = {
                    "watermarks": lambda: engine.watermarks(P0),
                    "producers": lambda: engine.producers(P0),
                    "size": lambda: engine.size(P0),
                    "epoch_end": lambda: engine.epoch_end(P0, 0),
                    "configure": lambda: engine.configure(TOPIC.topic_id, LogConfig()),
                }
                for name, call in calls.items():
                    with pytest.raises(RiverlogError) as caught:
                        call()
                    assert caught.value.kind is ErrorKind.UNKNOWN_TOPIC, name
                again = TopicLog(topic_id=OTHER.topic_id, name=TOPIC.name, partition_count=1)
                await engine.open_topic(again)
                fresh = PartitionId(again.topic_id, 0)
                assert await values_in(engine, fresh) == []
                await fill(engine, fresh, ["new"])
                assert await values_in(engine, fresh) == ["new"]

        self.run(story)

    def test_a_configuration_is_taken_while_the_topic_is_open(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a"])
                engine.configure(TOPIC.topic_id, LogConfig(segment_bytes=200, retention_bytes=1000))
                await fill(engine, P0, ["b"], ["c"])
                assert await values_in(engine, P0) == ["a", "b", "c"]

        self.run(story)

    def test_leader_epochs_and_where_they_end(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["a", "b"])
                epoch = engine.watermarks(P0).leader_epoch
                assert engine.epoch_end(P0, epoch) == EpochEnd(epoch, Offset(2))
                assert engine.epoch_end(P0, epoch + 1) == EpochEnd(-1, Offset(-1))

        self.run(story)

    def test_sizes(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                assert engine.size(P0).bytes == 0
                await fill(engine, P0, ["a"], ["b"])
                size = engine.size(P0)
                assert size.bytes == 2 * len(batch_of("a"))
                assert (size.log_start, size.log_end) == (0, 2)
                assert engine.size(P1).bytes == 0

        self.run(story)
