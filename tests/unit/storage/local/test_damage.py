"""A bad batch stops the reads of its segment, where it is, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset
from riverlog.storage.contract import FetchedPartition, Isolation, LogConfig, Read, TopicLog
from riverlog.storage.local.damage import is_current, note_damage
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, batch_of, batches_in, content, fill, settled
from riverlog.testing.local_world import LocalWorld

SIZE = len(batch_of("00"))
FIVE = TopicLog(  # five batches a segment
    topic_id=TOPIC.topic_id,
    name=TOPIC.name,
    partition_count=2,
    config=LogConfig(segment_bytes=5 * SIZE, index_interval_bytes=SIZE),
)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def read(engine: LocalEngine, offset: int, size: int = 100 * SIZE, partition: Any = P0) -> FetchedPartition:
    fetched = await settled(engine.read([Read(partition, Offset(offset), size)], size, Isolation.READ_UNCOMMITTED))
    (found,) = fetched.partitions
    return found


def offsets(found: FetchedPartition) -> list[int]:
    return [header.base_offset for header, _ in batches_in(content(found.slices))]


def flip(world: LocalWorld, path: str, position: int) -> None:
    file = world.files.open(path)
    file.write_at(bytes([file.read_at(1, position)[0] ^ 4]), position)
    file.close()


async def filled(world: LocalWorld) -> LocalEngine:
    engine = await world.start()
    for partition in (P0, P1):
        await fill(engine, partition, *[[f"{at:02d}"] for at in range(12)])
    return engine


@pytest.mark.parametrize("byte", [0, 7, 8, 16, 20, 60, SIZE - 1])
@pytest.mark.parametrize("loaded", [True, False])
def test_cold_reads_find_it_and_give_what_lies_before(
    byte: int, loaded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        world = LocalWorld([FIVE])
        engine = await filled(world)
        segment = engine.partitions[P0].segments[0]
        if not loaded:
            await world.stop()
            engine = await world.start()
            segment = engine.partitions[P0].segments[0]
        flip(world, segment.log_path, 2 * SIZE + byte)
        world.files.resident = False
        assert offsets(await read(engine, 0)) == [0, 1]
        for offset in (2, 3, 4):
            found = await read(engine, offset)
            assert found.error is not None, offset
            assert found.error.kind is ErrorKind.STORAGE
            for part in (
                segment.log_path,
                f"position {2 * SIZE}",
                f"offset {offset}",
                "riverlog repair",
                "offset 5 on",
            ):
                assert part in found.error.message
        assert segment.damaged_at == 2 * SIZE
        assert offsets(await read(engine, 1)) == [1]
        assert offsets(await read(engine, 5)) == [5, 6, 7, 8, 9]
        assert offsets(await read(engine, 2, partition=P1)) == [2, 3, 4]
        world.files.resident = True
        assert offsets(await read(engine, 0)) == [0, 1]
        assert (await read(engine, 3)).error is not None
        assert engine.counters.damaged_batches == 1
        await world.stop()

    with caplog.at_level(logging.ERROR):
        run(story)
    assert len([one for one in caplog.messages if "is damaged" in one]) == 1


def test_a_header_that_a_warm_read_cannot_walk_over_is_looked_at_on_a_thread() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE])
        engine = await filled(world)
        segment = engine.partitions[P0].segments[0]
        flip(world, segment.log_path, 2 * SIZE + 16)  # the magic
        found = await read(engine, 2)
        assert found.error is not None
        assert segment.damaged_at == 2 * SIZE
        assert offsets(await read(engine, 0)) == [0, 1]
        await world.stop()

    run(story)


def test_a_segment_that_is_damaged_from_its_first_byte_on_gives_nothing() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE])
        engine = await filled(world)
        partition = engine.partitions[P0]
        note_damage(engine, partition, partition.segments[1], 0, "a test")
        for resident in (True, False):
            world.files.resident = resident
            for offset in (5, 9):
                assert (await read(engine, offset)).error is not None
            assert offsets(await read(engine, 10)) == [10, 11]
            assert offsets(await read(engine, 3)) == [3, 4]
        await world.stop()

    run(story)


def test_damage_is_known_once_and_the_first_place_counts() -> None:
    async def story() -> None:
        world = LocalWorld([FIVE])
        engine = await filled(world)
        partition = engine.partitions[P0]
        segment = partition.segments[0]
        note_damage(engine, partition, segment, 3 * SIZE, "a test")
        note_damage(engine, partition, segment, 4 * SIZE, "behind it")
        note_damage(engine, partition, segment, 3 * SIZE, "the same")
        assert (segment.damaged_at, engine.counters.damaged_batches) == (3 * SIZE, 1)
        note_damage(engine, partition, segment, SIZE, "before it")
        assert (segment.damaged_at, engine.counters.damaged_batches) == (SIZE, 2)
        partition.failure = RiverlogError(ErrorKind.STORAGE, "it is being cut back")
        note_damage(engine, partition, segment, 0, "a file that is being cut")
        assert segment.damaged_at == SIZE
        partition.failure = None
        (gone,) = partition.drop_first(1)
        assert not is_current(partition, gone)
        note_damage(engine, partition, gone, 0, "of no interest any more")
        assert engine.counters.damaged_batches == 2
        partition.segments.insert(0, gone)
        partition.bases.insert(0, gone.base_offset)
        await world.stop()

    run(story)
