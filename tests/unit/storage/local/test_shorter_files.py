"""A segment that became shorter under a running engine (somebody truncated it) is an error for its readers, not a loop."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset
from riverlog.storage.contract import Isolation, Read
from riverlog.testing.conformance.log_engine import BYTES_MAX, P0, TOPIC, fill, settled
from riverlog.testing.local_world import LocalWorld


def test_reading_and_searching_end_with_an_error() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        await fill(engine, P0, *[[f"record {at}"] for at in range(20)])
        segment = engine.partitions[P0].segments[0]
        assert segment.file is not None
        segment.file.truncate(segment.size // 2)
        answer = await settled(engine.read([Read(P0, Offset(19), BYTES_MAX - 1)], BYTES_MAX, Isolation.READ_UNCOMMITTED))
        assert answer.partitions[0].error is None, "the end of the log is known without a walk"
        answer = await settled(engine.read([Read(P0, Offset(15), BYTES_MAX)], BYTES_MAX, Isolation.READ_UNCOMMITTED))
        found = answer.partitions[0]
        assert found.error is not None
        assert found.error.kind is ErrorKind.STORAGE
        with pytest.raises(RiverlogError):
            await engine.offset_of_max_timestamp(P0)

    asyncio.run(asyncio.wait_for(story(), 30))
