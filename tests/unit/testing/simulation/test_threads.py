"""Executors without threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from riverlog.env.entropy import SeededEntropy
from riverlog.testing.simulation.loop import SimulatedLoop, Time
from riverlog.testing.simulation.threads import SimulatedThreads

Story = Callable[[SimulatedThreads], Coroutine[None, None, None]]


def run(story: Story, threads: int, seed: int) -> None:
    entropy = SeededEntropy(seed)
    loop = SimulatedLoop(Time(), entropy)
    loop.live(story(SimulatedThreads(loop, entropy, threads)))


@pytest.mark.parametrize("threads", [1, 3])
def test_jobs_of_one_thread_keep_their_order_those_of_several_do_not(threads: int) -> None:
    orders = set()
    for seed in range(10):
        order: list[int] = []

        async def story(executor: SimulatedThreads, order: list[int] = order) -> None:
            jobs = [executor.run(lambda number=number: order.append(number) or number) for number in range(6)]  # type: ignore[misc,func-returns-value]
            assert await asyncio.gather(*jobs) == list(range(6))

        run(story, threads, seed)
        assert sorted(order) == list(range(6))
        orders.add(tuple(order))
    assert (len(orders) == 1) is (threads == 1)


def test_failures_are_told_and_close_finishes_what_waits() -> None:
    done: list[str] = []

    async def story(executor: SimulatedThreads) -> None:
        with pytest.raises(ZeroDivisionError):
            await executor.run(lambda: 1 // 0)
        for name in ("a", "b"):
            executor.run(lambda name=name: done.append(name))  # type: ignore[misc]
        executor.close()
        with pytest.raises(AssertionError):
            executor.run(lambda: None)

    run(story, 1, 1)
    assert "b" in done
