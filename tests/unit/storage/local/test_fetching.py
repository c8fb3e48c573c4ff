"""A whole fetch of warm and cold partitions, and one that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.ids import Offset
from riverlog.storage.contract import Isolation, Read
from riverlog.testing.conformance.log_engine import P0, P1, P2, TOPIC, batches_in, content, fill, settled
from riverlog.testing.local_world import LocalWorld

UNCOMMITTED = Isolation.READ_UNCOMMITTED


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def test_warm_and_cold_partitions_come_in_the_order_of_the_reads() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        for partition in (P0, P1, P2):
            await fill(engine, partition, ["a"], ["b"])
        cold = engine.partitions[P1].segments[0].file
        assert cold is not None
        cold.resident = lambda position, count: False  # type: ignore[method-assign]  # this one needs a disk
        reads = [Read(one, Offset(at), 10_000) for at, one in enumerate((P0, P1))] + [Read(P2, Offset(0), 10_000)]
        fetched = await settled(engine.read(reads, 100_000, UNCOMMITTED))
        found = [[header.base_offset for header, _ in batches_in(content(one.slices))] for one in fetched.partitions]
        assert found == [[0, 1], [1], [0, 1]]
        assert engine.counters.cold_reads == 1
        fetched.close()
        await world.stop()

    run(story)


@pytest.mark.parametrize("turns", [0, 1])
def test_a_fetch_that_is_given_up_gives_back_what_it_held(turns: int) -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        world.files.resident = False
        answer = engine.read([Read(P0, Offset(0), 100)], 100, UNCOMMITTED)
        task = asyncio.ensure_future(answer)  # type: ignore[arg-type]  # cold: an awaitable
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.partitions[P0].segments[0].users == 0
        await world.stop()

    run(story)


def test_a_topic_that_goes_during_a_cold_read_is_unknown() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        world.files.resident = False
        answer = engine.read([Read(P0, Offset(0), 100)], 100, UNCOMMITTED)
        task = asyncio.ensure_future(answer)  # type: ignore[arg-type]  # cold: an awaitable
        await engine.delete_topic(TOPIC.topic_id)
        (partition,) = (await task).partitions
        assert partition.error is not None
        await world.stop()

    run(story)
