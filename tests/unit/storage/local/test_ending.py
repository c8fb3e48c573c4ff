"""Markers in this engine: one commit for all of a call, the answers of disks that refuse, and what retention and clients with
page-cache durability see of them. (The rest: the suite.)"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import Offset, PartitionId
from riverlog.storage.contract import Appended, Durability, LogConfig, TopicLog
from riverlog.testing.conformance.log_engine import P0, TOPIC, fill, kind_of
from riverlog.testing.conformance.log_transactions import committed_in, ended, marker_of, written
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import LocalWorld


def run(story: Callable[[LocalWorld], Coroutine[Any, Any, None]], partitions: int = 1, **config: Any) -> None:
    async def whole() -> None:
        config_of = LogConfig(**{"retention_ms": -1, **config})
        topic = TopicLog(topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=partitions, config=config_of)
        world = LocalWorld([topic])
        await story(world)
        await world.stop()

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_all_markers_of_a_call_are_one_commit() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        partitions = [PartitionId(TOPIC.topic_id, index) for index in range(20)]
        for partition in partitions:
            await written(engine, partition, "a", producer=(1, 0, 0))
        before = engine.counters.commits
        answers = await ended(engine, *(marker_of(partition, 1, 1) for partition in partitions))
        assert all(isinstance(answer, Appended) for answer in answers)
        assert engine.counters.commits <= before + 2, "one, and one for what its record had no room for"

    run(story, 20)


def test_a_marker_is_refused_where_it_cannot_be_written() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await written(engine, P0, "a", producer=(1, 0, 0))
        world.files.inject("write", ".log", errno.EIO, 1)
        (refused,) = await ended(engine, marker_of(P0, 1, 1, committed=False))
        assert kind_of(refused) is ErrorKind.STORAGE
        assert engine.watermarks(P0).last_stable_offset == 0
        (state,) = engine.producers(P0)
        assert (state.producer_epoch, state.current_transaction_first_offset) == (0, 0)
        (answer,) = await ended(engine, marker_of(P0, 1, 1, committed=False))
        assert isinstance(answer, Appended)
        assert not answer.duplicate
        await fill(engine, P0, ["b"])
        assert await committed_in(engine, P0) == ["b"]

    run(story)


def test_a_marker_whose_sync_fails_is_refused_and_the_transaction_is_open_again() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await written(engine, P0, "a", producer=(1, 0, 0))
        ending = asyncio.ensure_future(engine.end_transactions([marker_of(P0, 1, 1)]))
        world.files.inject("sync", ".log", errno.EIO, 1)
        (refused,) = await asyncio.wait_for(ending, 10)
        assert kind_of(refused) is ErrorKind.STORAGE
        while (failure := engine.partitions[P0].failure) is not None:
            assert "offline" not in failure.message
            await asyncio.sleep(0.001)
        assert engine.watermarks(P0).last_stable_offset == 0
        (again,) = await ended(engine, marker_of(P0, 1, 1))
        assert isinstance(again, Appended)
        assert not again.duplicate
        assert await committed_in(engine, P0) == ["a"]

    run(story)


def test_with_the_page_cache_for_durability_a_marker_is_seen_at_once_and_answered_once_it_is_synced() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await written(engine, P0, "a", producer=(1, 0, 0))
        answer = engine.end_transactions([marker_of(P0, 1, 1)])
        assert isinstance(answer, asyncio.Future)
        assert not answer.done()
        assert engine.watermarks(P0).last_stable_offset == 2
        await asyncio.wait_for(answer, 10)
        assert engine.watermarks(P0).durable_end == 2

    run(story, durability=Durability.PAGE_CACHE)


def test_an_answered_marker_outlives_the_power_whatever_the_durability() -> None:
    """Nobody writes it again: a transaction that came back without it would hold back readers for ever."""

    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await written(engine, P0, "a", producer=(1, 0, 0))
        await world.stop()  # its records are on the disk
        engine = await world.start()
        (answer,) = await ended(engine, marker_of(P0, 1, 1))
        assert isinstance(answer, Appended)
        await world.kill(Unsynced.LOST)
        engine = await world.start()
        assert engine.watermarks(P0).last_stable_offset == engine.watermarks(P0).log_end == 2

    run(story, durability=Durability.PAGE_CACHE)


def test_retention_leaves_what_is_open_and_takes_it_once_it_has_ended() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        await fill(engine, P0, *[["x" * 100]] * 10)
        await written(engine, P0, "a", producer=(1, 0, 0))
        await fill(engine, P0, *[["y" * 100]] * 10)
        await engine.checkpoints.write()
        world.clock.advance(100_000)
        engine.upkeep.retain()
        assert 0 < engine.watermarks(P0).log_start <= 10
        assert engine.watermarks(P0).last_stable_offset == 10
        await ended(engine, marker_of(P0, 1, 1, committed=False))
        await fill(engine, P0, ["z" * 100])
        assert len(engine.partitions[P0].transactions.aborted) == 1  # type: ignore[union-attr]
        await engine.checkpoints.write()
        engine.upkeep.retain()
        assert engine.watermarks(P0).log_start > 11
        await fill(engine, P0, *[["z" * 100]] * 10)
        await engine.checkpoints.write()
        engine.upkeep.retain()
        assert len(engine.partitions[P0].transactions.aborted) == 0  # type: ignore[union-attr]

    run(story, segment_bytes=400, retention_bytes=300)


def test_a_marker_may_begin_a_segment() -> None:
    async def story(world: LocalWorld) -> None:
        engine = await world.start()
        for at in range(8):
            await written(engine, P0, "x" * 60 * at, producer=(1, 0, at))
            await ended(engine, marker_of(P0, 1, 0, committed=False))
        await fill(engine, P0, ["end"])
        partition = engine.partitions[P0]
        assert [one.aborted for one in partition.segments].count(0) < len(partition.segments)
        assert sum(one.aborted for one in partition.segments) == 8
        assert await committed_in(engine, P0) == ["end"]
        await engine.delete_before(P0, Offset(3))
        assert await committed_in(engine, P0, 3) == ["end"]

    run(story, segment_bytes=300)
