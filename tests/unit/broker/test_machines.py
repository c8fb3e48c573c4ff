"""Machines of any kind: lazy rows, effects that only the kind knows, and what a machine wants done since its load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from riverlog.broker.effects import MachineRunner, lazy_commit_ms_max
from riverlog.broker.machines import Loaded, MachineKind, Machines
from riverlog.catalog.contract import Scope
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.clock import Now
from riverlog.env.entropy import SeededEntropy
from riverlog.state.transactions.commands import Outcome, Token
from riverlog.state.transactions.effects import Commit, Reply
from riverlog.testing.clock import ManualClock


class Note(NamedTuple):
    """An effect that only this kind knows."""

    text: str


class Early(NamedTuple):
    text: str


class Scripted:
    """A machine whose commands are the effects that they have."""

    def __init__(self, rows: Mapping[str, bytes]) -> None:
        self.rows = dict(rows)
        self.deadline_ms: int | None = None

    @property
    def exists(self) -> bool:
        return bool(self.rows)

    def step(self, command: Sequence[Any], now: Now) -> Sequence[Any]:
        for effect in command:
            if isinstance(effect, Commit):
                self.rows.update({key: value for key, value in effect.rows.items() if value is not None})
        return command


class World:
    def __init__(self, catalog: MemoryCatalog, since_load: Sequence[Any] = ()) -> None:
        self.catalog = catalog
        self.clock = ManualClock()
        self.notes: list[str] = []

        def load(name: str, rows: Mapping[str, bytes], now: Now) -> Loaded[Scripted]:
            return Scripted(rows), since_load

        def perform(runner: MachineRunner[Scripted], effect: Any) -> None:
            self.notes.append(effect.text)

        kind = MachineKind("transaction", "transactional id", load, ())
        self.machines = Machines(kind, catalog, self.clock, SeededEntropy(1), perform, (Early,))

    async def ask(self, *effects: Any) -> Any:
        token = Token(self.machines.next_token())
        return await self.machines.ask("a", [*effects, Reply(token, Outcome.OPEN)], token)

    async def rows(self) -> dict[str, bytes]:
        return {key: row.value for key, row in (await self.catalog.load(Scope("transaction", "a"))).items()}


def run(story: Callable[[World], Awaitable[None]], late: int = 2, since_load: Sequence[Any] = ()) -> None:
    async def play() -> None:
        world = World(MemoryCatalog(late=late), since_load)
        await story(world)
        await world.machines.close()

    asyncio.run(play())


async def turns(count: int = 20) -> None:
    for _ in range(count):
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn


def test_nobody_waits_for_a_lazy_commit_and_it_goes_after_a_moment() -> None:
    async def story(world: World) -> None:
        assert await world.ask(Commit({"state": b"1"}, lazy=True)) is Outcome.OPEN
        await turns()
        assert await world.rows() == {}
        world.clock.advance(lazy_commit_ms_max)
        await turns()
        assert await world.rows() == {"state": b"1"}

    run(story)


def test_lazy_rows_go_with_the_next_commit_that_somebody_waits_for() -> None:
    async def story(world: World) -> None:
        await world.ask(Commit({"state": b"1", "partition": b"p"}, lazy=True))
        await world.ask(Commit({"state": b"2"}))
        assert await world.rows() == {"state": b"2", "partition": b"p"}
        assert len(world.catalog.commits) == 1
        world.clock.advance(lazy_commit_ms_max)
        await turns()
        assert len(world.catalog.commits) == 1

    run(story)


def test_lazy_rows_are_committed_at_close() -> None:
    async def story(world: World) -> None:
        await world.ask(Commit({"state": b"1"}, lazy=True))
        await world.machines.close()
        assert await world.rows() == {"state": b"1"}

    run(story)


def test_a_lazy_commit_that_is_refused_drops_the_machine() -> None:
    async def story(world: World) -> None:
        await world.ask(Commit({"state": b"1"}))
        await world.ask(Commit({"state": b"2"}, lazy=True))
        await turns()
        world.catalog.refusals = 1
        world.clock.advance(lazy_commit_ms_max)
        await turns()
        assert not world.machines.runners
        await world.ask()
        assert world.machines.runners["a"].machine.rows == {"state": b"1"}

    run(story)


def test_effects_of_the_kind_wait_for_the_commits_before_them_but_for_the_early_ones() -> None:
    async def story(world: World) -> None:
        asked = asyncio.ensure_future(world.ask(Commit({"state": b"1"}), Note("after"), Early("at once")))
        while not world.notes:
            await turns(1)
        assert world.notes == ["at once"]
        assert await world.rows() == {}
        await asked
        assert world.notes == ["at once", "after"]
        await world.ask(Note("nothing before"))
        assert world.notes[-1] == "nothing before"

    run(story, late=5)


def test_nothing_is_done_behind_a_commit_that_was_refused() -> None:
    async def story(world: World) -> None:
        await world.ask(Commit({"state": b"1"}))
        world.catalog.refusals = 1
        (runner,) = world.machines.runners.values()
        world.machines.tell(runner, [Commit({"state": b"2"}), Note("never")])
        await turns()
        assert world.notes == []
        assert runner.refusal is not None

    run(story)


def test_what_a_machine_wants_since_its_load_is_done() -> None:
    async def story(world: World) -> None:
        await world.machines.load_all()
        assert world.notes == []  # there is none
        await world.ask()
        assert world.notes == ["go on"]

    run(story, since_load=[Note("go on")])


def test_whoever_asks_for_a_load_of_what_is_loaded_gets_the_one_that_there_is() -> None:
    async def story(world: World) -> None:
        await world.ask(Commit({"state": b"1"}))
        (runner,) = world.machines.runners.values()
        assert await world.machines._load("a") is runner
        assert await world.machines.ready("a") is runner
        await world.machines.load_all()
        assert list(world.machines.runners.values()) == [runner]

    run(story)


def test_one_machine_although_some_come_and_go_while_others_wait_for_their_load() -> None:
    """Nothing is left of it after each request, so each has it loaded again; never are there two."""

    async def story(world: World) -> None:
        answers = await asyncio.gather(*(world.ask() for _ in range(20)))
        assert answers == [Outcome.OPEN] * 20
        await turns(50)
        assert not world.machines.runners

    run(story, late=3)
