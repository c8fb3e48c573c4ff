"""Clocks: the machine's, and the one that a test moves."""

from __future__ import annotations

import asyncio

from riverlog.env.clock import SystemClock
from riverlog.testing.clock import ManualClock


def test_the_systems_clock_goes_forward() -> None:
    clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert second.monotonic_ms >= first.monotonic_ms
    assert abs(clock.now_ms() - first.wall_ms) < 60_000


def test_sleepers_wake_when_the_clock_is_moved_and_in_order() -> None:
    async def story() -> list[int]:
        clock = ManualClock()
        woken: list[int] = []

        async def sleeper(seconds: int) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        async with asyncio.TaskGroup() as tasks:
            for seconds in (3, 1, 2):
                tasks.create_task(sleeper(seconds))
            await clock_has(clock, 3)
            clock.advance(2_000)
            await clock_has(clock, 1)
            assert woken == [1, 2]
            clock.advance(1_000)
        return woken

    assert asyncio.run(story()) == [1, 2, 3]


async def clock_has(clock: ManualClock, sleepers: int) -> None:
    while clock.sleeping != sleepers:
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn
