"""Where what is committed ends in the files, and which aborted transactions a region of a file needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from riverlog.base.ids import Offset, ProducerId
from riverlog.records.header import read_header
from riverlog.storage.contract import Acks, LogConfig, TopicLog
from riverlog.storage.local import transactions
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.transactions import aborted_from, aborted_of, aborted_within, stable_end
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, fill, settled
from riverlog.testing.conformance.log_transactions import ended, marker_of, write_of, written
from riverlog.testing.local_world import LocalWorld


def run(story: Callable[[LocalEngine], Coroutine[Any, Any, None]], **config: Any) -> None:
    async def whole() -> None:
        topic = TopicLog(
            topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=LogConfig(retention_ms=-1, **config)
        )
        world = LocalWorld([topic])
        await story(await world.start())
        await world.stop()

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_a_partition_without_transactions_has_nothing_of_it() -> None:
    async def story(engine: LocalEngine) -> None:
        await fill(engine, P0, ["a"])
        await settled(engine.append([append_of(P0, "b", producer=(1, 0, 0))], Acks.ALL))
        partition = engine.partitions[P0]
        assert partition.transactions is None
        assert stable_end(partition) is partition.high
        assert aborted_from(partition, Offset(0)) == []
        assert aborted_of(partition, partition.segments[0]) == []

    run(story)


def test_the_end_is_where_the_first_open_transaction_begins_in_its_segment() -> None:
    async def story(engine: LocalEngine) -> None:
        partition = engine.partitions[P0]
        for at in range(6):
            await fill(engine, P0, ["x" * 50])
            assert stable_end(partition) is partition.high
            size = partition.segments[-1].size
            await written(engine, P0, "y" * 50, producer=(1, 0, at))
            await written(engine, P0, "z", producer=(2, 0, at))
            end = stable_end(partition)
            position = size if end.segment is partition.segments[partition.segment_at(Offset(3 * at))] else 0
            assert end.offset == 5 * at + 1
            assert end.segment is not None
            assert end.segment.file is not None
            there = read_header(end.segment.file.read_at(61, end.position))
            assert (there.base_offset, there.producer_id) == (end.offset, 1)
            assert position in (0, size)
            await ended(engine, marker_of(P0, 1, 0))
            assert stable_end(partition).offset == 5 * at + 2, "the other one is open"
            await ended(engine, marker_of(P0, 2, 0))

    run(story, segment_bytes=400)


def test_a_marker_that_is_not_durable_holds_back_what_it_ended() -> None:
    async def story(engine: LocalEngine) -> None:
        await written(engine, P0, "a", producer=(1, 0, 0))
        partition = engine.partitions[P0]
        ending = asyncio.ensure_future(engine.end_transactions([marker_of(P0, 1, 1)]))
        assert partition.log_end == 2
        assert stable_end(partition).offset == 0
        await asyncio.wait_for(ending, 10)
        assert stable_end(partition) is partition.high

    run(story)


def test_places_are_forgotten(monkeypatch: Any) -> None:
    monkeypatch.setattr(transactions, "places_slack", 4)

    async def story(engine: LocalEngine) -> None:
        await written(engine, P0, "open", producer=(9, 0, 0))
        partition = engine.partitions[P0]
        assert partition.transactions is not None
        for at in range(40):
            await written(engine, P0, "a", producer=(1, 0, at))
            await ended(engine, marker_of(P0, 1, 0))
            assert len(partition.transactions.places) <= 12
        assert stable_end(partition).position == 0
        assert stable_end(partition).offset == 0

    run(story)


def test_a_region_needs_what_its_index_says_at_most() -> None:
    async def story(engine: LocalEngine) -> None:
        for at in range(30):
            await written(engine, P0, "x" * 100, producer=(1, 0, at))
            await ended(engine, marker_of(P0, 1, 0, committed=False))
        partition = engine.partitions[P0]
        segment = partition.segments[0]
        everything = aborted_within(partition, segment, segment.size, Offset(0), partition.log_end)
        assert [one.first_offset for one in everything] == [2 * at for at in range(30)]
        assert segment.index is not None
        entry = list(segment.index)[4]
        some = aborted_within(partition, segment, entry.position, Offset(2), partition.log_end)
        assert [one.first_offset for one in some] == list(range(2, entry.offset + 1, 2))
        segment.index = None
        assert len(aborted_within(partition, segment, 100, Offset(2), Offset(10))) == 4, "up to where it is committed"
        assert [one.producer_id for one in aborted_of(partition, segment)] == [ProducerId(1)] * 30
        assert len(aborted_from(partition, Offset(50))) == 5

    run(story, index_interval_bytes=300)


def test_a_write_that_is_refused_leaves_no_place() -> None:
    async def story(engine: LocalEngine) -> None:
        await written(engine, P0, "a", producer=(1, 0, 0))
        partition = engine.partitions[P0]
        assert partition.transactions is not None
        await settled(engine.append([write_of(P0, "late", producer=(1, 0, 5))], Acks.ALL))
        assert list(partition.transactions.places) == [0]

    run(story)
