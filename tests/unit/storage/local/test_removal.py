"""Removal: one task for all segments, one for all directories, one checkpoint for all that wait."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.ids import Offset, PartitionId, TopicId, TopicName
from riverlog.base.units import DAY_MS
from riverlog.storage.contract import LogConfig, TopicLog
from riverlog.storage.format import names
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, appended, fill, values_in
from riverlog.testing.local_world import DIRECTORY, LocalWorld


def topic(partitions: int = 3, **config: Any) -> TopicLog:
    return TopicLog(
        topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=partitions, config=LogConfig(**config)
    )


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)  # a thread does it


def files(world: LocalWorld, partition: int = 0) -> list[str]:
    return [
        name
        for name in world.files.list(f"{DIRECTORY}/topics/rivers-{partition}")
        if names.parse_segment_file_name(name) is not None and ".log" in name
    ]


async def fill_old(engine: LocalEngine, partitions: int) -> None:
    for index in range(partitions):
        await appended(engine, [append_of(PartitionId(TOPIC.topic_id, index), "old", timestamps=[1])])


def test_one_checkpoint_serves_a_hundred_partitions() -> None:
    async def story() -> None:
        world = LocalWorld([topic(100, retention_ms=1000, file_delete_delay_ms=5000)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        await fill_old(engine, 100)
        await engine.checkpoints.write()
        await asyncio.sleep(0)
        before, tasks = engine.counters.checkpoints, len(engine.tasks.running)
        engine.upkeep.retain()
        assert len(engine.tasks.running) == tasks
        assert engine.upkeep.removal.waiting == 100
        await until(lambda: all(files(world, index)[0].endswith(names.DELETED) for index in range(100)))
        assert engine.counters.checkpoints - before <= 2  # one more where the rolled segments asked for it
        while engine.upkeep.removal.waiting:
            world.clock.advance(5000)
            await asyncio.sleep(0.001)
        assert [files(world, index) for index in (0, 99)] == [[f"{1:020d}.log"]] * 2
        await world.stop()

    run(story)


def test_each_topics_delay_is_its_own() -> None:
    async def story() -> None:
        other = TopicLog(
            topic_id=TopicId(b"o" * 16), name=TopicName("other"), partition_count=1,
            config=LogConfig(retention_ms=1000, file_delete_delay_ms=9000),
        )  # fmt: skip
        world = LocalWorld([topic(1, retention_ms=1000, file_delete_delay_ms=3000), other])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        for partition in (PartitionId(other.topic_id, 0), P0):
            await appended(engine, [append_of(partition, "old", timestamps=[1])])
        engine.upkeep.retain()
        removal = engine.upkeep.removal
        await until(lambda: removal.waiting == 2 and not removal._doomed)
        while removal.waiting == 2:
            world.clock.advance(1000)
            await asyncio.sleep(0.001)
        assert f"{0:020d}.log{names.DELETED}" in world.files.list(f"{DIRECTORY}/topics/other-0")
        assert files(world) == [f"{1:020d}.log"]
        while removal.waiting:
            world.clock.advance(1000)
            await asyncio.sleep(0.001)
        await world.stop()

    run(story)


def test_a_clean_stop_leaves_no_file_that_waits() -> None:
    """Nobody reads any more, so there is nothing to wait for; and the next start does not look into directories."""

    async def story() -> None:
        world = LocalWorld([topic(2, retention_ms=1000, file_delete_delay_ms=DAY_MS)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        await fill_old(engine, 2)
        engine.upkeep.retain()
        await until(lambda: files(world)[0].endswith(names.DELETED))
        await fill_old(engine, 2)
        engine.upkeep.retain()  # not renamed yet
        await world.stop()
        assert [files(world, index) for index in range(2)] == [[f"{2:020d}.log"]] * 2
        engine = await world.start()
        assert (engine.watermarks(P0).log_start, engine.watermarks(P0).log_end) == (2, 2)
        await world.stop()

    run(story)


def test_a_checkpoint_that_fails_is_tried_again_and_nothing_goes_before() -> None:
    async def story() -> None:
        world = LocalWorld([topic(1, retention_ms=1000, file_delete_delay_ms=0)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        await fill_old(engine, 1)
        world.files.inject("rename", "/checkpoint", errno.EIO, times=1)
        async with engine.checkpoints.busy:
            engine.upkeep.retain()
        await until(lambda: not world.files.faults)
        await asyncio.sleep(0)
        assert f"{0:020d}.log" in files(world)
        while engine.upkeep.removal.waiting:
            world.clock.advance(10_000)
            await asyncio.sleep(0.001)
        assert files(world) == [f"{1:020d}.log"]
        await world.stop()

    run(story)


def test_a_topic_of_many_partitions_goes_one_directory_at_a_time() -> None:
    async def story() -> None:
        world = LocalWorld([topic(150)])
        engine = await world.start()
        await fill_old(engine, 150)
        await asyncio.sleep(0)
        tasks = len(engine.tasks.running)
        world.files.operations.clear()
        await engine.delete_topic(TOPIC.topic_id)
        there = world.files.list(f"{DIRECTORY}/topics")
        assert all(names.parse_deleted_directory_name(name) is not None for name in there)
        assert len(engine.tasks.running) <= tasks
        await engine.open_topic(topic(150))  # the name is free at once
        await fill(engine, P0, ["new"])
        await until(lambda: not engine.upkeep.removal.waiting)
        assert world.files.list(f"{DIRECTORY}/topics") == ["rivers-0"]
        assert await values_in(engine, P0) == ["new"]
        await world.stop()

    run(story)


def test_directories_have_a_thread_of_their_own() -> None:
    async def story() -> None:
        world = LocalWorld([topic(3)])
        engine = await world.start()
        await fill_old(engine, 3)
        release: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        class Stuck:
            def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
                return release

            def close(self) -> None: ...

        engine.upkeep.removal._remover = Stuck()
        await engine.delete_topic(TOPIC.topic_id)
        assert engine.upkeep.removal.waiting == 3
        await engine.open_topic(topic(3))
        await fill(engine, P0, ["a", "b"])
        assert await engine.delete_before(P0, Offset(1)) == 1  # checkpoints go on
        assert engine.upkeep.removal.waiting == 3
        release.set_result(None)
        await until(lambda: not engine.upkeep.removal.waiting)
        await world.stop()

    run(story)


def test_what_comes_while_a_checkpoint_is_written_waits_for_the_next_and_no_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        world = LocalWorld([topic(2, retention_ms=1000, file_delete_delay_ms=0)])
        world.clock.advance(DAY_MS)
        engine = await world.start()
        first, second = engine.partitions.values()
        await fill_old(engine, 2)
        await engine.checkpoints.write()
        write, looked = engine.checkpoints.write, False

        async def written(**more: Any) -> None:
            nonlocal looked
            await write(**more)
            if not looked:
                looked = True
                engine.upkeep._look(second)  # as if it had come after the capture

        engine.checkpoints.write = written  # type: ignore[method-assign,assignment]
        engine.upkeep._look(first)
        await until(lambda: looked and not engine.upkeep.removal.waiting)  # the clock stands still
        assert [files(world, index) for index in range(2)] == [[f"{1:020d}.log"]] * 2
        await world.stop()

    run(story)
    assert "nothing is removed" not in caplog.text
