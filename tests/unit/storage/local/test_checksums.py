"""Checksums of sealed segments: computed after they were sealed, in the next checkpoint, and never of damage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset
from riverlog.records.checksum import crc32c
from riverlog.storage.contract import LogConfig, TopicLog
from riverlog.storage.format import checkpoint
from riverlog.storage.format.checkpoint import Checksums, PartitionMark
from riverlog.storage.local import checksums
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.conformance.log_engine import P0, TOPIC, fill
from riverlog.testing.local_world import DIRECTORY, LocalWorld
from tests.partition_files import make_batch, simple_records

PARTITION = f"{DIRECTORY}/topics/rivers-0"


def topic(**config: Any) -> TopicLog:
    config = {"segment_bytes": 300, "index_interval_bytes": 50, **config}
    return TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=LogConfig(**config))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def until(condition: Callable[[], bool]) -> None:
    """Threads have done their work."""
    while not condition():
        await asyncio.sleep(0.001)


def mark_of(world: LocalWorld) -> PartitionMark:
    return checkpoint.decode(world.files.read(f"{DIRECTORY}/checkpoint")).partitions[0]


def real(world: LocalWorld, base_offset: int) -> Checksums:
    path = f"{PARTITION}/{base_offset:020d}"
    return Checksums(*(crc32c(world.files.read(path + suffix)) for suffix in (".log", ".index", ".timeindex")))


async def computed(engine: LocalEngine) -> None:
    segments = engine.partitions[P0].segments
    await until(lambda: all(segment.checksums is not None for segment in segments[:-1]))


VALUES = [[f"{at:03d}"] for at in range(20)]


def test_sealed_segments_get_the_checksums_of_their_files() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, *VALUES)
        await engine.checkpoints.write()
        await computed(engine)
        await world.stop()
        marks = mark_of(world).segments
        assert len(marks) > 3
        assert [mark.checksums for mark in marks] == [real(world, mark.base_offset) for mark in marks]
        engine = await world.start()
        assert [one.checksums for one in engine.partitions[P0].segments[:-1]] == [mark.checksums for mark in marks]
        await world.stop()

    run(story)


def test_what_a_start_finds_without_checksums_gets_them_at_a_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "window_bytes", 100)

    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, *VALUES)
        await engine.checkpoints.write()
        await computed(engine)
        await world.stop()
        path = f"{DIRECTORY}/checkpoint"
        found = checkpoint.decode(world.files.read(path))
        bare = [
            mark._replace(segments=[segment._replace(checksums=None) for segment in mark.segments])
            for mark in found.partitions
        ]
        file = world.files.open(path)
        file.write_at(checkpoint.encode(found._replace(partitions=bare)), 0)
        engine = await world.start()
        waiting = world.clock.sleeping
        while any(segment.checksums is None for segment in engine.partitions[P0].segments[:-1]):
            await until(lambda: world.clock.sleeping > waiting or not len(engine.checkpoints.checksums))
            world.clock.advance(1)
            await asyncio.sleep(0.001)
        await world.stop()
        marks = mark_of(world).segments
        assert [mark.checksums for mark in marks] == [real(world, mark.base_offset) for mark in marks]

    run(story)


def test_damage_gets_no_checksum(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, *VALUES)
        await engine.checkpoints.write()
        await computed(engine)
        segment = engine.partitions[P0].segments[0]
        segment.checksums = None
        file = world.files.open(segment.log_path)
        file.write_at(b"?", 65)
        with caplog.at_level(logging.ERROR):
            engine.checkpoints.checksums.add(engine.partitions[P0], segment)
            await until(lambda: segment.damaged_at is not None)
        assert (segment.damaged_at, segment.checksums) == (0, None)
        assert "CRC" in caplog.text
        await world.stop()
        assert mark_of(world).segments[0].checksums is not None, "of the time before the damage"

    run(story)


def batches(*offsets: int, leader_epoch: int = 0) -> bytes:
    return b"".join(make_batch(at, simple_records(2, 1000), leader_epoch=leader_epoch) for at in offsets)


@pytest.mark.parametrize(
    ("content", "position", "what"),
    [
        (batches(0, 2) + bytes(70), 2, "no whole batch"),
        (batches(0, 2)[:-1], 1, "no whole batch"),
        (batches(0, 3), 1, "where 2 of 0"),
        (batches(0, 1), 1, "where 2 of 0"),
        (batches(0, leader_epoch=3) + batches(2), 1, "where 2 of 3"),
    ],
)
def test_what_is_not_whole_and_dense_is_damage(content: bytes, position: int, what: str) -> None:
    world = LocalWorld([])
    world.files.make_directory("/x")
    file = world.files.open("/x/00000000000000000000.log", create=True)
    file.write_at(content, 0)
    with pytest.raises(Corruption, match=what) as caught:
        checksums.checksums_of(world.files, "/x/00000000000000000000", Offset(0), dense=True)
    assert caught.value.position == position * len(batches(0))


def test_compacted_segments_have_gaps_and_large_batches_need_more_than_a_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checksums, "window_bytes", 64)
    world = LocalWorld([])
    world.files.make_directory("/x")
    file = world.files.open("/x/00000000000000000000.log", create=True)
    content = batches(4, 9, 30)
    file.write_at(content, 0)
    path = "/x/00000000000000000000"
    assert checksums.checksums_of(world.files, path, Offset(0), dense=False) == Checksums(crc32c(content))


def test_marks_get_only_what_is_of_the_same_segment() -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, *VALUES)
        await engine.checkpoints.write()
        await computed(engine)
        partition = engine.partitions[P0]
        assert partition.mark is not None
        bare = partition.mark._replace(
            segments=[
                one._replace(checksums=None, size=one.size + (at == 1))
                for at, one in enumerate(partition.mark.segments)
            ]
        )
        filled = checksums.with_checksums(bare, partition.segments)
        assert [one.checksums is None for one in filled.segments[:3]] == [False, True, False]
        await world.stop()

    run(story)
