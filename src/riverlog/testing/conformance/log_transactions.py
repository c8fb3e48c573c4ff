"""What every log engine must do about transactions: markers, the last stable offset, the aborted ones that a fetch names.

Invariant: `committed_in` reads as a client does that reads only what is committed: by the aborted transactions of each fetch,
and the markers among its batches. What it gives is what the suite is about.
Not here: who decides (a coordinator), what survives a crash (each durable engine has its own tests).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, ProducerId
from riverlog.records.batch import records_of
from riverlog.records.builder import build_batch
from riverlog.records.control import ControlType, Marker, marker_in
from riverlog.records.header import BatchHeader, read_header
from riverlog.records.record import NewRecord
from riverlog.storage.contract import (
    AbortedTransaction,
    Acks,
    Append,
    Appended,
    EndMarker,
    FetchedPartition,
    Isolation,
    LogEngine,
    Read,
    Refused,
)
from riverlog.testing.conformance.log_engine import (
    BYTES_MAX,
    NOBODY,
    P0,
    P1,
    UNCOMMITTED,
    LogSuite,
    append_of,
    appended,
    batches_in,
    content,
    fetched_one,
    fill,
    kind_of,
    settled,
    values_in,
)

COMMITTED: Final = Isolation.READ_COMMITTED


def keyed_write_of(
    partition: PartitionId,
    *values: str,
    producer: tuple[int, int, int] = (-1, -1, -1),
    transactional: bool = False,
) -> Append:
    """A batch whose keys are what stands before the first `=` of each value. `producer`: id, epoch, first sequence."""
    producer_id, epoch, sequence = producer
    batch = build_batch(
        [NewRecord(1_700_000_000_000, value.partition("=")[0].encode(), value.encode()) for value in values],
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=transactional,
    )
    return Append(partition, memoryview(batch), read_header(batch))


def write_of(partition: PartitionId, *values: str, producer: tuple[int, int, int]) -> Append:
    """A batch of a transaction."""
    return keyed_write_of(partition, *values, producer=producer, transactional=True)


def marker_of(
    partition: PartitionId, producer_id: int, epoch: int, *, committed: bool = True, coordinator: int = 1
) -> EndMarker:
    return EndMarker(partition, ProducerId(producer_id), epoch, committed, coordinator)


async def written(
    engine: LogEngine, partition: PartitionId, *values: str, producer: tuple[int, int, int]
) -> Appended | Refused:
    (answer,) = await appended(engine, [write_of(partition, *values, producer=producer)])
    return answer


async def ended(engine: LogEngine, *markers: EndMarker) -> Sequence[Appended | Refused]:
    return await settled(engine.end_transactions(markers))


async def read_committed(
    engine: LogEngine, partition: PartitionId, offset: int = 0, bytes_max: int = BYTES_MAX
) -> tuple[FetchedPartition, list[tuple[BatchHeader, bytes]]]:
    """One fetch, closed, and its batches."""
    answer = await settled(engine.read([Read(partition, Offset(offset), bytes_max)], bytes_max, COMMITTED))
    batches = batches_in(content(answer.partitions[0].slices))
    answer.close()
    return answer.partitions[0], batches


def committed_values(fetched: FetchedPartition, batches: Sequence[tuple[BatchHeader, bytes]], offset: int) -> list[str]:
    """What a client shows of one fetch: it skips the records of producers in an aborted transaction, until their marker."""
    assert fetched.aborted is not None
    waiting = list(fetched.aborted)
    assert waiting == sorted(waiting, key=lambda one: one.first_offset), "ascending by their first offsets"
    skipped: set[int] = set()
    values: list[str] = []
    for header, batch in batches:
        while waiting and waiting[0].first_offset <= header.last_offset:
            skipped.add(waiting.pop(0).producer_id)
        if header.is_control:
            marker = marker_in(batch, header)
            if marker is not None and marker.type is ControlType.ABORT:
                skipped.discard(header.producer_id)
        elif not (header.is_transactional and header.producer_id in skipped):
            values += [
                (record.value or b"").decode() for record in records_of(batch, header) if record.offset >= offset
            ]
    return values


async def committed_in(engine: LogEngine, partition: PartitionId, offset: int = 0, bytes_max: int = 200) -> list[str]:
    """All that is committed from an offset on, in small fetches, up to the last stable offset."""
    values: list[str] = []
    while True:
        answer, batches = await read_committed(engine, partition, offset, bytes_max)
        assert answer.error is None, answer.error
        if not batches:
            return values
        assert batches[-1][0].next_offset <= answer.last_stable_offset, "nothing behind the last stable offset"
        values += committed_values(answer, batches, offset)
        offset = batches[-1][0].next_offset


class LogTransactionsSuite(LogSuite):
    """Beside `LogEngineSuite`."""

    def test_a_committed_transaction_is_seen_with_its_marker(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["before"])
                await written(engine, P0, "a", "b", producer=(7, 0, 0))
                await fill(engine, P0, ["beside"])
                assert engine.watermarks(P0).last_stable_offset == 1
                assert engine.watermarks(P0).high_watermark == 4
                assert await values_in(engine, P0) == ["before", "a", "b", "beside"]
                assert await committed_in(engine, P0) == ["before"]
                assert await ended(engine, marker_of(P0, 7, 0)) == [Appended(Offset(4), Offset(5), Offset(0))]
                assert engine.watermarks(P0).last_stable_offset == 5
                assert await committed_in(engine, P0) == ["before", "a", "b", "beside"]

        self.run(story)

    def test_an_aborted_transaction_is_named(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 0, 0))
                await fill(engine, P0, ["between"])
                await written(engine, P0, "b", producer=(7, 0, 1))
                await ended(engine, marker_of(P0, 7, 0, committed=False))
                await written(engine, P0, "c", producer=(7, 0, 2))
                await ended(engine, marker_of(P0, 7, 0))
                answer, batches = await read_committed(engine, P0)
                assert answer.aborted == [AbortedTransaction(ProducerId(7), Offset(0))]
                assert (answer.last_stable_offset, answer.high_watermark) == (6, 6)
                assert batches
                assert await committed_in(engine, P0) == ["between", "c"]
                uncommitted, batches = await fetched_one(engine, P0, 0)
                assert uncommitted.aborted is None
                assert batches

        self.run(story)

    def test_a_marker_is_kafkas_control_batch(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 2, 0))
                await ended(engine, marker_of(P0, 7, 3, committed=False, coordinator=9))
                _, ((header, batch),) = await fetched_one(engine, P0, 1)
                assert header.is_control
                assert header.is_transactional
                assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 3, -1)
                assert (header.record_count, header.last_offset_delta) == (1, 0)
                assert header.leader_epoch == engine.watermarks(P0).leader_epoch
                assert marker_in(batch, header) == Marker(ControlType.ABORT, 9)

        self.run(story)

    def test_interleaved_transactions_hold_back_each_other(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for at in range(3):
                    await written(engine, P0, f"a{at}", producer=(1, 0, at))
                    await written(engine, P0, f"b{at}", producer=(2, 0, at))
                    await written(engine, P0, f"c{at}", producer=(3, 0, at))
                await ended(engine, marker_of(P0, 2, 0, committed=False))
                await ended(engine, marker_of(P0, 3, 0))
                assert engine.watermarks(P0).last_stable_offset == 0
                assert await committed_in(engine, P0) == []
                await ended(engine, marker_of(P0, 1, 0))
                assert engine.watermarks(P0).last_stable_offset == 12
                assert await committed_in(engine, P0) == ["a0", "c0", "a1", "c1", "a2", "c2"]

        self.run(story)

    def test_a_fetch_in_the_middle_of_an_aborted_transaction_names_it(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for at in range(6):
                    await written(engine, P0, f"a{at}", producer=(1, 0, at))
                    await fill(engine, P0, [f"plain{at}"])
                await ended(engine, marker_of(P0, 1, 0, committed=False))
                await fill(engine, P0, ["after"])
                for offset in range(13):
                    answer, batches = await read_committed(engine, P0, offset, 1)
                    assert len(batches) == 1
                    assert answer.aborted == [AbortedTransaction(ProducerId(1), Offset(0))]
                answer, _ = await read_committed(engine, P0, 13)
                assert answer.aborted == []
                assert await committed_in(engine, P0, 5) == ["plain2", "plain3", "plain4", "plain5", "after"]

        self.run(story)

    def test_a_fetch_names_few_of_many_aborted_transactions(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for at in range(100):
                    await written(engine, P0, "x" * 1000, producer=(1, 0, at))
                    await ended(engine, marker_of(P0, 1, 0, committed=False))
                answer, batches = await read_committed(engine, P0, 100, 5000)
                assert answer.aborted is not None
                named = [one.first_offset for one in answer.aborted]
                read = [header.base_offset for header, _ in batches if not header.is_control]
                assert set(read) <= set(named)
                assert min(named) == 100
                assert len(named) <= len(read) + 8, "an index entry further than it must be"

        self.run(story)

    def test_many_markers_are_one_call(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 0, 0))
                await written(engine, P1, "b", producer=(7, 0, 0))
                first, unknown, second = await ended(
                    engine, marker_of(P0, 7, 1), marker_of(NOBODY, 7, 1), marker_of(P1, 7, 1)
                )
                assert first == Appended(Offset(1), Offset(2), Offset(0))
                assert kind_of(unknown) is ErrorKind.UNKNOWN_TOPIC
                assert second == Appended(Offset(1), Offset(2), Offset(0))
                assert await ended(engine) == []

        self.run(story)

    def test_a_marker_takes_its_place_at_the_call(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                answers = [
                    engine.append([write_of(P0, "a", producer=(7, 0, 0))], Acks.ALL),
                    engine.end_transactions([marker_of(P0, 7, 1)]),
                    engine.append([write_of(P0, "b", producer=(7, 1, 0))], Acks.ALL),
                    engine.end_transactions([marker_of(P0, 7, 2, committed=False)]),
                ]
                found = [(await settled(answer))[0] for answer in answers]
                assert [one.base_offset for one in found if isinstance(one, Appended)] == [0, 1, 2, 3]
                assert await committed_in(engine, P0) == ["a"]

        self.run(story)

    def test_a_marker_that_is_told_again_is_not_written_twice(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 0, 0))
                await ended(engine, marker_of(P0, 7, 1))
                (again,) = await ended(engine, marker_of(P0, 7, 1))
                assert again == Appended(Offset(2), Offset(2), Offset(0), duplicate=True)
                (empty,) = await ended(engine, marker_of(P1, 7, 1))
                assert empty == Appended(Offset(0), Offset(1), Offset(0)), "a producer that is not known here"
                (again,) = await ended(engine, marker_of(P1, 7, 1))
                assert again == Appended(Offset(1), Offset(1), Offset(0), duplicate=True)
                assert (engine.watermarks(P0).log_end, engine.watermarks(P1).log_end) == (2, 1)

        self.run(story)

    def test_a_marker_of_a_replaced_producer_or_coordinator_is_refused(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 3, 0))
                (old,) = await ended(engine, marker_of(P0, 7, 2))
                assert kind_of(old) is ErrorKind.INVALID_PRODUCER_EPOCH
                await ended(engine, marker_of(P0, 7, 3, coordinator=5))
                await written(engine, P0, "b", producer=(7, 3, 1))
                (zombie,) = await ended(engine, marker_of(P0, 7, 3, committed=False, coordinator=4))
                assert kind_of(zombie) is ErrorKind.TRANSACTION_COORDINATOR_FENCED
                assert engine.watermarks(P0).last_stable_offset == 2
                await ended(engine, marker_of(P0, 7, 3, coordinator=6))
                assert await committed_in(engine, P0) == ["a", "b"]
                (state,) = engine.producers(P0)
                assert state.coordinator_epoch == 6

        self.run(story)

    def test_what_a_bumped_marker_ended_cannot_be_written_to_any_more(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 0, 0))
                await ended(engine, marker_of(P0, 7, 1, committed=False))
                late = await written(engine, P0, "late", producer=(7, 0, 1))
                assert kind_of(late) is ErrorKind.INVALID_PRODUCER_EPOCH
                again = await written(engine, P0, "a", producer=(7, 0, 0))
                assert kind_of(again) is ErrorKind.INVALID_PRODUCER_EPOCH
                wrong = await written(engine, P0, "b", producer=(7, 1, 1))
                assert kind_of(wrong) is ErrorKind.OUT_OF_ORDER_SEQUENCE
                assert isinstance(await written(engine, P0, "b", producer=(7, 1, 0)), Appended)
                await ended(engine, marker_of(P0, 7, 2))
                assert await committed_in(engine, P0) == ["b"]

        self.run(story)

    def test_sequences_go_on_behind_a_marker_of_the_same_epoch(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                for at in range(3):
                    assert isinstance(await written(engine, P0, f"a{at}", producer=(7, 0, at)), Appended)
                    await ended(engine, marker_of(P0, 7, 0, committed=at != 1))
                assert await committed_in(engine, P0) == ["a0", "a2"]

        self.run(story)

    def test_what_is_known_of_producers(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["x"])
                await written(engine, P0, "a", "b", producer=(7, 4, 0))
                (state,) = engine.producers(P0)
                assert state._replace(last_timestamp_ms=0) == (7, 4, 1, 0, 1, -1)
                await ended(engine, marker_of(P0, 7, 5, coordinator=2))
                (state,) = engine.producers(P0)
                assert state._replace(last_timestamp_ms=0) == (7, 5, -1, 0, -1, 2)

        self.run(story)

    def test_a_cut_covers_markers_that_were_answered(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 0, 0))
                assert (await engine.cut([P0], COMMITTED))[P0] == 0
                assert (await engine.cut([P0], UNCOMMITTED))[P0] == 1
                await ended(engine, marker_of(P0, 7, 1))
                assert (await engine.cut([P0], COMMITTED))[P0] == 2

        self.run(story)

    def test_what_a_producer_wrote_is_visible_once_it_was_answered_whatever_others_do(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                first, second = ProducerId(7), ProducerId(8)
                assert engine.is_visible(P0, first), "it has written nothing"
                await written(engine, P0, "a", producer=(7, 0, 0))
                under_way = engine.append([write_of(P0, "b", producer=(8, 0, 0))], Acks.ALL)
                if not isinstance(under_way, Sequence):
                    assert engine.is_visible(P0, second) <= (engine.watermarks(P0).high_watermark >= 2)
                await settled(under_way)
                assert engine.is_visible(P0, first)
                assert engine.is_visible(P0, second)
                await ended(engine, marker_of(P0, 7, 1), marker_of(P0, 8, 1))
                assert engine.is_visible(P0, first), "nothing of its new epoch"
                with pytest.raises(RiverlogError) as caught:
                    engine.is_visible(NOBODY, first)
                assert caught.value.kind is ErrorKind.UNKNOWN_TOPIC

        self.run(story)

    def test_a_marker_wakes_readers(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await written(engine, P0, "a", producer=(7, 0, 0))
                woken = asyncio.Event()
                subscription = engine.subscribe([P0], woken.set)
                await asyncio.sleep(0)
                woken.clear()
                ending = engine.end_transactions([marker_of(P0, 7, 1)])
                while engine.watermarks(P0).last_stable_offset < 2:
                    await asyncio.wait_for(woken.wait(), 10)
                    woken.clear()
                await ending
                subscription.close()

        self.run(story)

    def test_deleted_records_of_an_open_transaction_hold_nothing_back(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await fill(engine, P0, ["x"])
                await written(engine, P0, "a", producer=(7, 0, 0))
                await fill(engine, P0, ["y"])
                await asyncio.sleep(0)
                woken = asyncio.Event()
                subscription = engine.subscribe([P0], woken.set)
                assert await engine.delete_before(P0, Offset(2)) == 2
                assert engine.watermarks(P0).last_stable_offset == 2
                await asyncio.wait_for(woken.wait(), 10)
                subscription.close()
                assert await committed_in(engine, P0, 2) == []
                await ended(engine, marker_of(P0, 7, 1, committed=False))
                assert await committed_in(engine, P0, 2) == ["y"]

        self.run(story)

    def test_plain_records_do_without_any_of_it(self) -> None:
        async def story() -> None:
            async with self.running() as engine:
                await appended(engine, [append_of(P0, "a", producer=(7, 0, 0))])
                answer, batches = await read_committed(engine, P0)
                assert (list(answer.aborted or ()), len(batches), answer.last_stable_offset) == ([], 1, 1)

        self.run(story)
