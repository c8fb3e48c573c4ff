"""One partition's fast path and its books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from riverlog.base.ids import Offset
from riverlog.records.header import read_header
from riverlog.storage.contract import Acks, Append, Durability, LogConfig, TopicLog
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, appended, batch_of, fill, settled
from riverlog.testing.local_world import LocalWorld


def topic(**config: Any) -> TopicLog:
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_writable_batch_is_stamped_in_place_and_another_is_not_touched() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a", "b", "c"])
        for writable in (True, False):
            batch = batch_of("d")
            before = bytes(batch)
            header = read_header(batch)
            view = memoryview(batch) if writable else memoryview(batch).toreadonly()
            await appended(engine, [Append(P0, view, header)])
            assert (bytes(batch) != before) is writable
            if writable:
                assert read_header(batch).base_offset == 3
        await world.stop()

    run(story)


def test_one_batch_is_one_write() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        world.files.operations.clear()
        engine.append([append_of(P0, "b" * 5000)], Acks.LEADER)
        assert [one.kind for one in world.files.operations] == ["write"]
        await world.stop()

    run(story)


def test_a_batch_larger_than_a_segment_gets_one_of_its_own() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200)])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b" * 500], ["c"])
        assert [segment.base_offset for segment in engine.partitions[P0].segments] == [0, 1, 2]
        await world.stop()

    run(story)


def test_a_full_index_rolls_the_segment() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_index_bytes=16, index_interval_bytes=0)])
        engine = await world.start()
        await fill(engine, P0, *[["a"]] * 8)
        assert [segment.base_offset for segment in engine.partitions[P0].segments] == [0, 3, 6]
        await world.stop()

    run(story)


def test_the_ends_of_a_partition() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=150)])
        engine = await world.start()
        partition = engine.partitions[P0]
        with world.files.held_syncs():
            answers = [engine.append([append_of(P0, value)], Acks.ALL) for value in "abcd"]
            assert [partition.visible_bytes(segment) for segment in partition.segments] == [0, 0]
        for answer in answers:
            await settled(answer)
        size = len(batch_of("a"))
        assert [partition.visible_bytes(segment) for segment in partition.segments] == [2 * size, 2 * size]
        assert [partition.segment_at(Offset(offset)) for offset in range(5)] == [0, 0, 1, 1, 1]
        assert repr(partition) == "<LocalPartition rivers-0 0..4..4>"
        await world.stop()

    run(story)


def test_what_is_written_becomes_visible_when_durability_is_weakened() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        with world.files.held_syncs():
            engine.append([append_of(P0, "a")], Acks.LEADER)
            assert engine.watermarks(P0).high_watermark == 0
            engine.configure(TOPIC.topic_id, LogConfig(durability=Durability.PAGE_CACHE))
            assert engine.watermarks(P0).high_watermark == 1
            engine.configure(TOPIC.topic_id, LogConfig())
            engine.append([append_of(P0, "b")], Acks.LEADER)
            assert engine.watermarks(P0).high_watermark == 1
        assert await engine.cut([P0], 0) == {P0: 2}  # type: ignore[arg-type]  # READ_UNCOMMITTED
        await world.stop()

    run(story)
