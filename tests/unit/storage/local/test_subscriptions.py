"""Wake-ups: one a turn of the loop, none after `close`."""

from __future__ import annotations

import asyncio

from riverlog.storage.contract import Acks
from riverlog.testing.conformance.log_engine import P0, P1, TOPIC, append_of, settled
from riverlog.testing.local_world import LocalWorld


def test_one_wake_up_for_many_partitions() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        woken: list[str] = []
        both = engine.subscribe([P0, P1], lambda: woken.append("both"))
        one = engine.subscribe([P0], lambda: woken.append("one"))
        await settled(engine.append([append_of(P0, "a"), append_of(P1, "b")], Acks.ALL))
        await asyncio.sleep(0)
        assert sorted(woken) == ["both", "one"]
        one.close()
        one.close()
        both.close()
        assert engine.partitions[P0].subscribers is None
        await world.stop()

    asyncio.run(story())


def test_who_closes_while_others_are_woken_is_not_woken() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        woken: list[str] = []
        second = engine.subscribe([P0], lambda: woken.append("second"))

        def wake() -> None:
            woken.append("first")
            second.close()

        second.close()
        first = engine.subscribe([P0], wake)
        second = engine.subscribe([P0], lambda: woken.append("second"))
        await settled(engine.append([append_of(P0, "a")], Acks.ALL))
        await asyncio.sleep(0)
        assert woken == ["first"]
        first.close()
        await world.stop()

    asyncio.run(story())
