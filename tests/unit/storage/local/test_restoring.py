"""Indexes and producers at the recovery point, also where their files are damaged."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.base.ids import Offset
from riverlog.env.files import write_file
from riverlog.storage.contract import Acks, Appended
from riverlog.storage.format import names
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, settled, values_in
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITION = f"{DIRECTORY}/topics/{TOPIC.name}-0"


@pytest.mark.parametrize("damaged", ["", names.SNAPSHOT, names.INDEX, names.TIME_INDEX])
def test_what_is_damaged_is_made_again_from_the_batches(damaged: str) -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        for at, value in enumerate("abc"):
            await settled(engine.append([append_of(P0, value, producer=(5, 0, at))], Acks.ALL))
        await engine.checkpoints.write()
        await settled(engine.append([append_of(P0, "d", producer=(5, 0, 3))], Acks.ALL))
        await world.kill(Unsynced.LOST)
        for name in world.files.list(PARTITION):
            if damaged and name.endswith(damaged):
                write_file(world.files, f"{PARTITION}/{name}", b"damage")
        engine = await world.start()
        assert await values_in(engine, P0) == list("abcd")
        segment = engine.partitions[P0].segments[0]
        whole = segment.size
        assert engine.counters.recovered_bytes == (whole if damaged in (names.INDEX, names.TIME_INDEX) else whole // 4)
        (again,) = await settled(engine.append([append_of(P0, "c", producer=(5, 0, 2))], Acks.ALL))
        assert isinstance(again, Appended)
        assert (again.duplicate, again.base_offset) == (True, 2)
        (fresh,) = await settled(engine.append([append_of(P0, "e", producer=(5, 0, 4))], Acks.ALL))
        assert fresh == Appended(Offset(4), Offset(5), Offset(0))
        await world.stop()

    asyncio.run(asyncio.wait_for(story(), 60))
