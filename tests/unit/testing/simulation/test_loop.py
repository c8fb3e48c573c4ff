"""Virtual time: nobody waits, callbacks keep their order, a killed process does nothing more."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.env.entropy import SeededEntropy
from riverlog.testing.simulation.loop import SimulatedLoop, Stuck, Time


def made(seed: int = 1) -> tuple[SimulatedLoop, Time]:
    time = Time()
    return SimulatedLoop(time, SeededEntropy(seed)), time


def test_hours_pass_at_once_and_on_both_clocks() -> None:
    loop, time = made()

    async def story() -> int:
        before = time.now()
        await time.sleep(3600)
        after = time.now()
        assert after.wall_ms - before.wall_ms == after.monotonic_ms - before.monotonic_ms
        return after.monotonic_ms - before.monotonic_ms

    assert loop.live(story()) in range(3_600_000, 3_600_003)


def test_callbacks_run_in_the_order_of_the_calls() -> None:
    loop, _ = made()
    order: list[int] = []

    async def story() -> None:
        for number in range(100):
            asyncio.get_running_loop().call_soon(order.append, number)
        await asyncio.wait_for(asyncio.Event().wait(), 0.1)

    with pytest.raises(TimeoutError):
        loop.live(story())
    assert order == list(range(100))


def test_a_killed_process_does_nothing_more_and_its_tasks_end_in_silence() -> None:
    for callbacks in (*range(20), 1000):
        loop, _ = made()
        loop.callbacks_left = callbacks
        done: list[str] = []

        async def work(done: list[str] = done) -> None:
            try:
                for number in range(10):
                    done.append(str(number))
                    await asyncio.sleep(0.001)
            finally:
                done.append("finally")

        async def story() -> bool:
            await asyncio.gather(work(), work())
            return True

        ended = loop.live(story())
        assert ended is (True if callbacks == 1000 else None)
        assert loop.failures == []
        count = len(done)
        assert done.count("finally") in (0, 1, 2)
        assert len(done) == count


def test_who_waits_for_nothing_is_stuck() -> None:
    loop, _ = made()
    with pytest.raises(Stuck, match="everybody waits"):
        loop.live(asyncio.Event().wait())


def test_a_callback_that_fails_is_told() -> None:
    loop, time = made()

    async def story() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await time.sleep(0.1)

    loop.live(story())
    assert "ZeroDivisionError" in loop.failures[0]


def test_what_a_killed_process_still_asks_for_is_of_its_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `finally` may gather tasks; outside of a loop Python would make one that nobody closes."""
    loop, time = made()
    made_loops: list[str] = []
    gathered: list[bool] = []
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: made_loops.append("new"))

    async def story() -> None:
        try:
            asyncio.get_running_loop().call_soon(loop.kill)
            await time.sleep(1)
        finally:
            gathered.append(asyncio.gather().get_loop() is loop)

    loop.live(story())
    assert (gathered, made_loops) == ([True], [])
