"""Machines come at first use and go when nothing is left of their group. Faults and time: `test_coordinator.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId
from riverlog.broker.group_machines import GROUP_SCOPE, GroupMachines
from riverlog.catalog.contract import Scope
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.state.groups.commands import (
    CommitOffsets,
    CommittedOffset,
    DeleteGroup,
    Describe,
    DropTopics,
    GroupSettings,
)
from riverlog.state.groups.topics import NoTopics
from riverlog.testing.clock import ManualClock

PARTITION = PartitionId(TopicId(b"t" * 16), 0)


def machines_over(catalog: MemoryCatalog) -> GroupMachines:
    return GroupMachines(GroupSettings(), NoTopics(), catalog, ManualClock(), SeededEntropy(1))


def run(story: Callable[[GroupMachines, MemoryCatalog], Awaitable[None]]) -> None:
    async def play() -> None:
        catalog = MemoryCatalog(late=2)
        machines = machines_over(catalog)
        await story(machines, catalog)
        await machines.close()

    asyncio.run(play())


async def commit(machines: GroupMachines, group_id: str) -> None:
    token = machines.token()
    offsets = {PARTITION: CommittedOffset(5, -1, "", 0)}
    assert await machines.ask(group_id, CommitOffsets(token, "", None, -1, offsets), token) is None


def test_a_machine_stays_while_there_is_something_of_its_group() -> None:
    async def story(machines: GroupMachines, catalog: MemoryCatalog) -> None:
        await commit(machines, "g")
        assert list(machines.runners) == ["g"]
        token = machines.token()
        assert await machines.ask("g", DeleteGroup(token), token) is None
        await asyncio.gather(*machines._releasing.values())
        assert not machines.runners
        assert await catalog.load(Scope(GROUP_SCOPE, "g")) == {}

    run(story)


def test_asking_for_nothing_leaves_nothing() -> None:
    async def story(machines: GroupMachines, catalog: MemoryCatalog) -> None:
        async def describe() -> object:
            token = machines.token()
            return await machines.ask("nobody", Describe(token), token)

        answers = await asyncio.gather(*(describe() for _ in range(5)))
        assert len({str(answer) for answer in answers}) == 1
        assert not machines.runners

    run(story)


def test_all_that_there_are_are_loaded_but_those_of_others() -> None:
    async def story(machines: GroupMachines, catalog: MemoryCatalog) -> None:
        for group_id in ("g", "h", "i"):
            await commit(machines, group_id)
        catalog.taken_by[Scope(GROUP_SCOPE, "h")] = "elsewhere:9092"
        others = machines_over(catalog)
        await others.load_all()
        assert sorted(others.runners) == ["g", "i"]
        with pytest.raises(RiverlogError) as caught:
            await commit(others, "h")
        assert caught.value.kind is ErrorKind.NOT_COORDINATOR
        assert "elsewhere:9092" in caught.value.message
        await others.close()

    run(story)


def test_after_close_nothing_is_asked_and_closing_twice_is_nothing() -> None:
    async def story(machines: GroupMachines, catalog: MemoryCatalog) -> None:
        await commit(machines, "g")
        await machines.close()
        await machines.close()
        with pytest.raises(RiverlogError) as caught:
            await commit(machines, "g")
        assert caught.value.kind is ErrorKind.COORDINATOR_NOT_AVAILABLE

    run(story)


def test_telling_a_machine_that_fails_harms_nobody() -> None:
    async def story(machines: GroupMachines, catalog: MemoryCatalog) -> None:
        await commit(machines, "g")
        runner = machines.runners["g"]
        runner.machine.offsets = cast("object", None)  # type: ignore[assignment]
        machines.tell(runner, DropTopics([PARTITION.topic_id]))
        assert not machines.runners
        await commit(machines, "g")

    run(story)
