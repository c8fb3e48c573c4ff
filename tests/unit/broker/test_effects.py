"""One machine and its effects: what waits for what. Faults of the catalog: `test_coordinator.py`, `test_transactions.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId
from riverlog.broker.effects import MachineRunner, RunnerWorld
from riverlog.catalog.contract import Lease, Scope
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.env.tasks import Tasks
from riverlog.state.groups.commands import (
    CommitOffsets,
    CommittedOffset,
    DropTopics,
    FetchedOffsets,
    FetchOffsets,
    GroupSettings,
    Heartbeat,
    Token,
)
from riverlog.state.groups.group import Group
from riverlog.state.groups.topics import NoTopics
from riverlog.testing.clock import ManualClock

PARTITION = PartitionId(TopicId(b"t" * 16), 0)


class World:
    def __init__(self, late: int) -> None:
        self.catalog = MemoryCatalog(late=late)
        self.idle: list[MachineRunner[Group]] = []
        self.dropped: list[MachineRunner[Group]] = []
        self.tasks = Tasks("test")
        world: RunnerWorld[Group] = RunnerWorld(
            "group",
            self.catalog,
            ManualClock(),
            SeededEntropy(1),
            self.tasks,
            lambda runner, deadline_ms: None,
            self.idle.append,
            self.dropped.append,
        )
        machine = Group("g", GroupSettings(), NoTopics())
        self.runner = MachineRunner("g", Lease(Scope("group", "g"), 1), machine, world)

    def commit(self, token: int, offset: int) -> object:
        offsets = {PARTITION: CommittedOffset(offset, -1, "", 0)}
        return self.runner.ask(CommitOffsets(Token(token), "", None, -1, offsets), Token(token))

    def fetch(self, token: int) -> object:
        return self.runner.ask(FetchOffsets(Token(token), None), Token(token))


def run(story: Callable[[World], Awaitable[None]], late: int = 3) -> None:
    async def play() -> None:
        world = World(late)
        await story(world)
        await world.tasks.close()

    asyncio.run(play())


def test_what_depends_on_no_commit_is_answered_at_once() -> None:
    async def story(world: World) -> None:
        beat = Heartbeat(Token(1), "nobody", None, 0)
        assert world.runner.ask(beat, Token(1)) is ErrorKind.UNKNOWN_MEMBER_ID
        assert world.idle == [world.runner]

    run(story)


def test_answers_keep_to_the_commits_before_them() -> None:
    async def story(world: World) -> None:
        order: list[int] = []
        futures = [world.commit(1, 5), world.fetch(2), world.commit(3, 6), world.fetch(4)]
        for number, future in enumerate(futures, 1):
            assert isinstance(future, asyncio.Future)
            future.add_done_callback(lambda _, number=number: order.append(number))  # type: ignore[misc]
        assert world.runner.committing is not None
        await world.runner.committing
        await asyncio.gather(*futures)  # type: ignore[call-overload]
        assert order == [1, 2, 3, 4]
        assert len(world.catalog.commits) == 1  # all of it was asked before the first commit began
        assert world.fetch(5) == FetchedOffsets(None, {PARTITION: CommittedOffset(6, -1, "", 0)})

    run(story)


def test_one_commit_at_a_time() -> None:
    async def story(world: World) -> None:
        first = world.commit(1, 5)
        while not world.catalog.commits and not world.runner._behind_commit:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turn.set_result, None)
            await turn
        second, third = world.commit(2, 6), world.commit(3, 7)
        assert isinstance(first, asyncio.Future)
        await first
        assert isinstance(second, asyncio.Future)
        assert not second.done()
        await asyncio.gather(second, third)  # type: ignore[call-overload]
        assert len(world.catalog.commits) == 2

    run(story)


def test_a_dropped_machine_answers_nothing_more() -> None:
    async def story(world: World) -> None:
        world.catalog.refusals = 1
        first, second = world.commit(1, 5), world.fetch(2)
        for future in (first, second):
            assert isinstance(future, asyncio.Future)
            with pytest.raises(RiverlogError) as caught:
                await future
            assert caught.value.kind is ErrorKind.COORDINATOR_NOT_AVAILABLE
        assert world.dropped == [world.runner]
        with pytest.raises(RiverlogError):
            world.fetch(3)
        world.runner.tell(DropTopics([]))  # nobody waits, so nobody is told

    run(story)


def test_a_group_of_which_nothing_is_left_is_idle_after_the_commit() -> None:
    async def story(world: World) -> None:
        await world.commit(1, 5)  # type: ignore[misc]
        world.runner.tell(DropTopics([PARTITION.topic_id]))
        assert not world.idle
        assert world.runner.committing is not None
        await world.runner.committing
        assert world.idle == [world.runner]

    run(story)
