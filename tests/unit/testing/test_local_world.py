"""A machine that can be killed."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.storage.contract import Acks
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, fill, values_in
from riverlog.testing.fakes import Unsynced
from riverlog.testing.local_world import LocalWorld


def test_lives_of_a_machine() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        await fill(engine, P0, ["a"])
        with world.files.held_syncs():
            engine.append([append_of(P0, "b")], Acks.LEADER)
            await world.kill()
        (refused,) = engine.append([append_of(P0, "c")], Acks.LEADER)  # type: ignore[misc]  # acks 1: at once
        assert "Bad file descriptor" in refused.error.message
        engine = await world.start()
        assert await values_in(engine, P0) == ["a"]
        with pytest.raises(AssertionError, match="runs already"):
            await world.start()
        await world.kill(Unsynced.KEPT)
        await world.start()
        await world.stop()

    asyncio.run(story())
