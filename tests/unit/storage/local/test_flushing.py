"""Late flushes: one timer for all partitions, in the order in which they are due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.base.units import DAY_MS
from riverlog.storage.contract import Acks, Durability, LogConfig, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.testing.conformance.log_engine import append_of
from riverlog.testing.local_world import LocalWorld

PAGE_CACHE = LogConfig(durability=Durability.PAGE_CACHE, flush_ms=1000)


def topic(number: int, partitions: int = 1, config: LogConfig = PAGE_CACHE) -> TopicLog:
    name = TopicName(f"t{number}")
    return TopicLog(topic_id=TopicId(bytes([number]) * 16), name=name, partition_count=partitions, config=config)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def unsynced(engine: LocalEngine) -> list[str]:
    """What stays so once the commits that are due have run."""
    for _ in range(5):
        await asyncio.sleep(0)
    await engine.commit.drain()
    return [one.name for one in engine.partitions.values() if one.unsynced_bytes]


def test_each_topic_is_flushed_when_its_own_time_is_over() -> None:
    async def story() -> None:
        slow = replace(PAGE_CACHE, flush_ms=5000)
        never = replace(PAGE_CACHE, flush_ms=400 * DAY_MS)
        topics = [topic(1), topic(2, config=slow), topic(3, config=never)]
        world = LocalWorld(topics)
        engine = await world.start()
        everything = [append_of(PartitionId(one.topic_id, 0), "a") for one in topics]
        engine.append(everything, Acks.ALL)
        assert await unsynced(engine) == ["t1-0", "t2-0", "t3-0"]
        assert len(engine.upkeep.flushes) == 2
        world.clock.advance(999)
        assert await unsynced(engine) == ["t1-0", "t2-0", "t3-0"]
        world.clock.advance(1)
        assert await unsynced(engine) == ["t2-0", "t3-0"]
        engine.append(everything[:1], Acks.ALL)
        world.clock.advance(1000)
        assert await unsynced(engine) == ["t2-0", "t3-0"]
        world.clock.advance(3000)
        assert await unsynced(engine) == ["t3-0"]
        assert len(engine.upkeep.flushes) == 0
        await world.stop()

    run(story)


def test_a_thousand_partitions_need_no_task_and_no_timer_each() -> None:
    async def story() -> None:
        world = LocalWorld([topic(1, partitions=1000)])
        engine = await world.start()
        await unsynced(engine)  # all timers run
        tasks, sleeping = len(engine.tasks.running), world.clock.sleeping
        partitions = list(engine.partitions)
        for partition in partitions:
            engine.append([append_of(partition, "a")], Acks.ALL)
            engine.append([append_of(partition, "b")], Acks.ALL)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(engine.upkeep.flushes) == 1000
        assert len(engine.tasks.running) == tasks
        assert world.clock.sleeping <= sleeping + 2
        world.clock.advance(1000)
        assert await unsynced(engine) == []
        await world.stop()

    run(story)


def test_a_deleted_topic_is_forgotten() -> None:
    async def story() -> None:
        world = LocalWorld([topic(1), topic(2)])
        engine = await world.start()
        for partition in engine.partitions:
            engine.append([append_of(partition, "a")], Acks.ALL)
        await engine.delete_topic(TopicId(bytes([1]) * 16))
        assert len(engine.upkeep.flushes) == 1
        assert await unsynced(engine) == ["t2-0"]
        world.clock.advance(1000)
        assert await unsynced(engine) == []
        await world.stop()

    run(story)
