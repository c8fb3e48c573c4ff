"""Segments are synced beside the commits, a few at a time, for whoever needs it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.storage.contract import Acks, Appended, LogConfig, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.local.settling import settled_together_max
from riverlog.testing.conformance.log_engine import TOPIC, append_of, settled
from riverlog.testing.local_world import LocalWorld

COUNT = 40
PARTITIONS = [PartitionId(TOPIC.topic_id, index) for index in range(COUNT)]


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def journaled() -> tuple[LocalWorld, LocalEngine]:
    topic = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=COUNT, config=LogConfig())
    world = LocalWorld([topic], LocalSettings(sync_threads=2, read_threads=2, journal_files_min=1))
    engine = await world.start()
    await settled(engine.append([append_of(one, "a") for one in PARTITIONS], Acks.ALL))
    return world, engine


def all_of(engine: LocalEngine) -> dict[Any, Offset]:
    return {partition: partition.durable.offset for partition in engine.partitions.values()}


def test_all_are_synced_and_no_two_twice() -> None:
    async def story() -> None:
        world, engine = await journaled()
        settling = engine.commit.settling
        await asyncio.gather(settling.synced(all_of(engine)), settling.synced(all_of(engine)))
        assert all(partition.synced.offset == 1 for partition in engine.partitions.values())
        assert engine.counters.settled_segments == COUNT
        await settling.synced(all_of(engine))
        assert engine.counters.settled_segments == COUNT
        await world.stop()

    run(story)


def test_commits_go_on_beside_it() -> None:
    async def story() -> None:
        world, engine = await journaled()
        settling = asyncio.create_task(engine.commit.settling.synced(all_of(engine)))
        await asyncio.sleep(0)
        assert sum(partition.syncing for partition in engine.partitions.values()) == settled_together_max
        answers = await settled(engine.append([append_of(one, "b") for one in PARTITIONS], Acks.ALL))
        assert all(isinstance(answer, Appended) for answer in answers)
        await settling
        assert engine.counters.unsynced_bytes == 0
        await world.stop()

    run(story)


def test_what_was_appended_meanwhile_is_durable_with_it() -> None:
    async def story() -> None:
        world, engine = await journaled()
        engine.append([append_of(PARTITIONS[0], "b")], Acks.LEADER)
        partition = engine.partitions[PARTITIONS[0]]
        await engine.commit.settling.synced({partition: Offset(2)})
        assert partition.durable.offset == partition.synced.offset == partition.high.offset == 2
        assert engine.counters.unsynced_bytes == 0
        await world.stop()

    run(story)


def test_who_needs_a_partition_that_fails_hears_of_it() -> None:
    async def story() -> None:
        world, engine = await journaled()
        world.files.inject("sync", f"{TOPIC.name}-7/", errno.EIO)
        with pytest.raises(RiverlogError, match="could not be synced"):
            await engine.commit.settling.synced(all_of(engine))
        partition = engine.partitions[PARTITIONS[7]]
        while partition.failure is not None:
            await asyncio.sleep(0.001)  # a thread cuts it back
        assert partition.synced.offset == 1
        await world.stop()

    run(story)


def test_who_needs_a_partition_that_is_deleted_hears_of_it() -> None:
    async def story() -> None:
        world, engine = await journaled()
        settling = asyncio.create_task(engine.commit.settling.synced(all_of(engine)))
        await asyncio.sleep(0)
        await engine.delete_topic(TOPIC.topic_id)
        with pytest.raises(RiverlogError, match="was deleted"):
            await settling
        await world.stop()

    run(story)
