"""The indexes that a clean start left on the disk: read with the first append, made again where they are damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.ids import Offset
from riverlog.storage.contract import LogConfig, TopicLog
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.waking import build_indexes, wake
from riverlog.testing.conformance.log_engine import P0, TOPIC, fill, values_in
from riverlog.testing.local_world import DIRECTORY, LocalWorld

BASE = f"{DIRECTORY}/topics/rivers-0/00000000000000000000"
RECORDS = [f"{at}" for at in range(10)]


def topic(**config: Any) -> TopicLog:
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def stopped() -> LocalWorld:
    world = LocalWorld([topic(index_interval_bytes=50)])
    await fill(await world.start(), P0, *[[value] for value in RECORDS])
    await world.stop()
    return world


def damage(world: LocalWorld, path: str) -> None:
    file = world.files.open(path)
    file.write_at(b"\xff" * file.size(), 0)
    file.sync()


def test_a_woken_segment_goes_on_as_if_it_had_never_slept() -> None:
    async def story() -> None:
        world = await stopped()
        before = world.files.read(f"{BASE}.index")
        engine = await world.start()
        await fill(engine, P0, *[[f"more {at}"] for at in range(5)])
        (segment,) = engine.partitions[P0].segments
        assert segment.index is not None
        whole = segment.index.encode()
        assert whole.startswith(before)
        assert len(whole) > len(before)
        await world.stop()
        assert world.files.read(f"{BASE}.index") == whole
        engine = await world.start()
        assert await values_in(engine, P0, 12) == ["more 2", "more 3", "more 4"]
        await world.stop()

    run(story)


def test_an_index_that_a_reader_loaded_is_not_dropped_once_it_is_written() -> None:
    async def story() -> None:
        world = await stopped()
        engine = await world.start()
        assert await values_in(engine, P0, 7) == ["7", "8", "9"]
        (segment,) = engine.partitions[P0].segments
        assert segment.index is not None
        assert segment.time_index is None
        await fill(engine, P0, ["10"])
        index = segment.index
        for at in range(engine.settings.loaded_indexes_max + 1):
            other = Segment(f"{DIRECTORY}/nowhere", Offset(at), 0)
            engine.checkpoints.loaded(other, OffsetIndex(Offset(at)))
        assert segment.index is index
        assert segment.time_index is not None
        await world.stop()

    run(story)


@pytest.mark.parametrize("suffix", ["index", "timeindex"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_index_ends_its_segment_and_is_made_again(suffix: str, gone: bool) -> None:
    async def story() -> None:
        world = await stopped()
        good = world.files.read(f"{BASE}.{suffix}")
        if gone:
            world.files.remove(f"{BASE}.{suffix}")
        else:
            damage(world, f"{BASE}.{suffix}")
        engine = await world.start()
        assert await values_in(engine, P0, 5) == RECORDS[5:]
        await fill(engine, P0, ["10"])
        partition = engine.partitions[P0]
        assert partition.bases == [0, 10]
        for task in list(engine.tasks.running):
            if "indexes of" in task.get_name():
                await task
        assert partition.segments[0].saved
        assert world.files.read(f"{BASE}.{suffix}") == good
        assert await values_in(engine, P0, 8) == ["8", "9", "10"]
        await world.stop()

    run(story)


def test_indexes_that_are_ahead_of_their_segment_are_refused() -> None:
    async def story() -> None:
        world = await stopped()
        files = world.files.session()
        segment = Segment(f"{DIRECTORY}/topics/rivers-0", Offset(0), 0)
        segment.size, segment.next_offset = files.size(f"{BASE}.log"), Offset(10)
        assert wake(files, segment)
        segment.index = segment.time_index = None
        segment.next_offset = Offset(5)
        assert not wake(files, segment)
        segment.next_offset, segment.max_timestamp = Offset(10), 1
        assert not wake(files, segment)
        assert segment.index is segment.time_index is None

    run(story)


def test_indexes_built_from_batches_are_those_that_were_written() -> None:
    async def story() -> None:
        world = await stopped()
        file = world.files.open(f"{BASE}.log")
        built = build_indexes(file, Offset(0), file.size(), 50)
        assert built is not None
        assert built.offsets.encode() == world.files.read(f"{BASE}.index")
        assert built.times.encode() == world.files.read(f"{BASE}.timeindex")
        assert len(OffsetIndex.decode(built.offsets.encode(), Offset(0))) > 2
        assert len(TimeIndex.decode(built.times.encode(), Offset(0))) > 0
        file.truncate(file.size() - 7)
        assert build_indexes(file, Offset(0), file.size(), 50) is None

    run(story)
