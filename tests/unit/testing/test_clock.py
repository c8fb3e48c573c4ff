"""The clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio

from riverlog.testing.clock import ManualClock


def test_sleepers_wake_when_they_are_due_in_order() -> None:
    async def story() -> list[str]:
        clock = ManualClock()
        woken: list[str] = []

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(name)

        async with asyncio.TaskGroup() as group:
            for name, seconds in (("late", 2.0), ("early", 1.0), ("never mind", 0.0)):
                group.create_task(sleeper(name, seconds))
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            clock.advance(0)
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            assert woken == ["never mind"]
            clock.advance(2000)
        return woken

    assert asyncio.run(story()) == ["never mind", "early", "late"]


def test_both_times_move_together() -> None:
    clock = ManualClock(wall_ms=5, monotonic_ms=7)
    clock.advance(10)
    assert (clock.now_ms(), clock.monotonic_ms()) == tuple(clock.now()) == (15, 17)
