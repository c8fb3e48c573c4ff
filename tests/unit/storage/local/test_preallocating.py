"""`preallocate`: reserved with the segment, given back when it is sealed and at a clean stop, invisible to everything else."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from riverlog.base.units import MIB
from riverlog.env.clock import SystemClock
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import RealFiles
from riverlog.storage.contract import Acks, Durability, LogConfig, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, append_of, appended, fill, values_in
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

FIRST = f"{DIRECTORY}/topics/rivers-0/{0:020d}.log"


def topic(**config: Any) -> TopicLog:
    return TopicLog(
        topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=3, config=LogConfig(preallocate=True, **config)
    )


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)  # a thread does it


def test_reserved_when_it_begins_and_given_back_when_it_is_sealed_and_at_the_end() -> None:
    async def story() -> None:
        world = LocalWorld([topic(segment_bytes=200)])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        await until(lambda: world.files.reserved == {FIRST: 200})
        assert world.files.size(FIRST) == engine.size(P0).bytes < 200
        await fill(engine, P0, ["b"], ["c"], ["d"])
        last = f"{DIRECTORY}/topics/rivers-0/{engine.partitions[P0].bases[-1]:020d}.log"
        assert last != FIRST
        await until(lambda: world.files.reserved == {last: 200})
        await world.stop()
        assert world.files.reserved == {}
        engine = await world.start()
        assert engine.counters.recovered_bytes == 0
        assert await values_in(engine, P0) == ["a", "b", "c", "d"]
        await world.stop()

    run(story)


@pytest.mark.parametrize("unsynced", [Unsynced.KEPT, Unsynced.LOST])
def test_after_a_crash_nothing_is_cut(unsynced: Unsynced) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        await fill(engine, P0, ["a"], ["b"])
        await until(lambda: bool(world.files.reserved))
        await world.kill(unsynced)
        engine = await world.start()
        assert engine.counters.cut_bytes == 0
        assert not [name for name in world.files.list(f"{DIRECTORY}/topics/rivers-0") if ".cut-" in name]
        assert await values_in(engine, P0) == ["a", "b"]
        assert FIRST in world.files.reserved
        await world.stop()
        assert world.files.reserved == {}, "also what a process before this one had reserved"

    run(story)


def test_without_room_it_goes_on_and_complains_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = LocalWorld([topic()])
        engine = await world.start()
        world.files.inject("allocate", "/topics/", errno.ENOSPC, times=2)
        with caplog.at_level(logging.WARNING):
            await appended(engine, [append_of(P0, "a"), append_of(P1, "b")])
            await until(lambda: not world.files.faults)
            await engine.upkeep.preallocation.step()
        assert await values_in(engine, P0) == ["a"]
        assert world.files.reserved == {}
        told = [record.getMessage() for record in caplog.records if "preallocate" in record.getMessage()]
        assert len(told) == 1
        await world.stop()

    run(story)


def test_a_segment_that_is_removed_before_its_turn_is_passed_over() -> None:
    async def story() -> None:
        world = LocalWorld([topic(retention_ms=1000, durability=Durability.PAGE_CACHE)])
        engine = await world.start()
        engine.append([append_of(P0, "old", timestamps=[1])], Acks.LEADER)
        partition = engine.partitions[P0]
        partition.synced = partition.high  # as if a sync had come between: retention takes nothing else
        engine.upkeep.retain()  # in the same turn of the loop
        await engine.upkeep.preallocation.step()
        assert FIRST not in world.files.reserved
        await world.stop()
        assert world.files.reserved == {}

    run(story)


def test_on_a_real_disk_blocks_are_there_and_bytes_are_not(tmp_path: Path) -> None:
    async def story() -> None:
        engine = await LocalEngine.open(
            str(tmp_path), LocalSettings(), files=RealFiles(), clock=SystemClock(), entropy=SeededEntropy(1),
            topics=[topic(segment_bytes=MIB)],
        )  # fmt: skip
        await fill(engine, P0, ["a"])
        path = tmp_path / "topics" / "rivers-0" / f"{0:020d}.log"
        await engine.upkeep.preallocation.step()
        while engine.upkeep.preallocation.pending:
            await asyncio.sleep(0.001)
        if path.stat().st_blocks * 512 < MIB:
            pytest.skip("this file system cannot reserve")
        assert path.stat().st_size == engine.size(P0).bytes < 1000
        await engine.close()
        assert path.stat().st_blocks * 512 < MIB

    run(story)
