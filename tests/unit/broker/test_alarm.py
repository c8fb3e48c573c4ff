"""One timer for many deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from riverlog.broker.alarm import Alarm
from riverlog.env.tasks import Tasks
from riverlog.testing.clock import ManualClock


class Timed:
    def __init__(self, name: str) -> None:
        self.name = name
        self.deadline_ms: int | None = None


class World:
    def __init__(self) -> None:
        self.clock = ManualClock(monotonic_ms=0)
        self.tasks = Tasks("test")
        self.rung: list[tuple[str, int]] = []
        self.alarm: Alarm[Timed] = Alarm(self.clock, self.tasks, self.due)
        self.then: Callable[[Timed], None] = lambda timed: None

    def due(self, timed: Timed) -> None:
        self.rung.append((timed.name, self.clock.monotonic_ms()))
        self.then(timed)

    async def pass_ms(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            self.clock.advance(1)
            for _ in range(5):
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(turn.set_result, None)
                await turn


def run(story: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        world = World()
        await world.pass_ms(1)
        await story(world)
        await world.tasks.close()

    asyncio.run(play())


def test_each_rings_at_its_time_in_order() -> None:
    async def story(world: World) -> None:
        for name, deadline_ms in (("c", 30), ("a", 10), ("b", 20), ("also b", 20)):
            world.alarm.schedule(Timed(name), deadline_ms)
        await world.pass_ms(40)
        assert world.rung == [("a", 10), ("b", 20), ("also b", 20), ("c", 30)]

    run(story)


def test_a_later_word_replaces_an_earlier_one() -> None:
    async def story(world: World) -> None:
        sooner, later, never = Timed("sooner"), Timed("later"), Timed("never")
        world.alarm.schedule(sooner, 30)
        world.alarm.schedule(sooner, 10)
        world.alarm.schedule(later, 10)
        world.alarm.schedule(later, 30)
        world.alarm.schedule(never, 10)
        world.alarm.schedule(never, None)
        await world.pass_ms(40)
        assert world.rung == [("sooner", 10), ("later", 30)]

    run(story)


def test_what_came_while_the_process_stood_still_is_heard_first() -> None:
    async def story(world: World) -> None:
        def come(turns_left: int) -> None:
            if turns_left:
                asyncio.get_running_loop().call_soon(come, turns_left - 1)
            else:
                world.rung.append(("a heartbeat", world.clock.monotonic_ms()))

        world.alarm.schedule(Timed("a session"), 50)
        await asyncio.sleep(0)
        world.clock.advance(5_000)
        asyncio.get_running_loop().call_soon(come, 3)  # is read, begins, is done
        await world.pass_ms(3)
        assert [name for name, _ in world.rung] == ["a heartbeat", "a session"]

    run(story)


def test_one_that_fails_does_not_stop_the_others() -> None:
    async def story(world: World) -> None:
        def fail(timed: Timed) -> None:
            if timed.name == "bad":
                raise RuntimeError("broken")

        world.then = fail
        for name, deadline_ms in (("bad", 10), ("good", 10), ("later", 20)):
            world.alarm.schedule(Timed(name), deadline_ms)
        await world.pass_ms(30)
        world.alarm.schedule(Timed("last"), 40)
        await world.pass_ms(20)
        assert [name for name, _ in world.rung] == ["bad", "good", "later", "last"]

    run(story)


def test_who_is_due_may_ask_again() -> None:
    async def story(world: World) -> None:
        world.then = lambda timed: world.alarm.schedule(timed, world.clock.monotonic_ms() + 10)
        world.alarm.schedule(Timed("a"), 10)
        await world.pass_ms(34)
        assert world.rung == [("a", 10), ("a", 20), ("a", 30)]

    run(story)


def test_a_deadline_in_the_past_rings_at_once() -> None:
    async def story(world: World) -> None:
        world.alarm.schedule(Timed("late"), -5)
        await world.pass_ms(1)
        assert world.rung == [("late", 2)]

    run(story)
