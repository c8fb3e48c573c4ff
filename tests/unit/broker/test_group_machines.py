"""Machines come at first use and go when nothing is left of their group. Faults and time: `test_coordinator.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId
from riverlog.broker.group_machines import GROUP_SCOPE, GroupMachines, Outcomes
from riverlog.catalog.contract import Scope
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.state.groups.commands import (
    CommitOffsets,
    CommitPending,
    CommittedOffset,
    DeleteGroup,
    Describe,
    DropTopics,
    FetchedOffsets,
    FetchOffsets,
    GroupSettings,
)
from riverlog.state.groups.topics import NoTopics
from riverlog.state.transactions.commands import Number, Outcome
from riverlog.testing.clock import ManualClock

PARTITION = PartitionId(TopicId(b"t" * 16), 0)


async def unknown(transactional_id: str, number: Number) -> Outcome:
    return Outcome.ABORTED


def machines_over(catalog: MemoryCatalog, outcomes: Outcomes = unknown) -> GroupMachines:
    return GroupMachines(
        lambda _: GroupSettings(), NoTopics(), catalog, ManualClock(), SeededEntropy(1), outcomes
    )


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


def test_settings_that_change_while_a_group_is_loaded_are_its_own() -> None:
    async def story(machines: GroupMachines, catalog: MemoryCatalog) -> None:
        token = machines.token()
        pending = CommitPending(token, "id", 1, "", None, -1, {PARTITION: CommittedOffset(5, -1, "", 0)})
        assert await machines.ask("g", pending, token) is None
        await machines.close()
        settings = [GroupSettings()]

        async def outcomes(transactional_id: str, number: Number) -> Outcome:
            settings[0] = GroupSettings(consumer_session_timeout_ms=7_000)
            return Outcome.OPEN

        again = GroupMachines(
            lambda _: settings[0], NoTopics(), catalog.reopened(), ManualClock(), SeededEntropy(1), outcomes
        )
        runner = await again.ready("g")
        assert runner.machine.settings.consumer_session_timeout_ms == 7_000
        await again.close()

    run(story)


def test_a_group_hears_what_became_of_its_transactions_before_it_is_asked_anything() -> None:
    asked: list[tuple[str, int]] = []

    async def outcomes(transactional_id: str, number: Number) -> Outcome:
        asked.append((transactional_id, number))
        if transactional_id == "gone":
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, "not now")
        return {"yes": Outcome.COMMITTED, "no": Outcome.ABORTED}.get(transactional_id, Outcome.OPEN)

    def part(index: int) -> PartitionId:
        return PartitionId(PARTITION.topic_id, index)

    async def story(machines: GroupMachines, catalog: MemoryCatalog) -> None:
        for index, name in enumerate(("yes", "no", "open", "gone")):
            token = machines.token()
            offsets = {part(index): CommittedOffset(5, -1, name, 0)}
            pending = CommitPending(token, name, index + 1, "", None, -1, offsets)
            assert await machines.ask("g", pending, token) is None
        await machines.close()
        again = machines_over(catalog.reopened(), outcomes)
        token = again.token()
        fetched = await again.ask("g", FetchOffsets(token, None, require_stable=True), token)
        assert fetched == FetchedOffsets(None, {part(0): CommittedOffset(5, -1, "yes", 0)}, {part(2), part(3)})
        assert sorted(asked) == [("gone", 4), ("no", 2), ("open", 3), ("yes", 1)]
        await again.close()
        rows = await again._catalog.load(Scope(GROUP_SCOPE, "g"))
        assert len(rows) == 3  # the committed one, and the two of which nothing is known yet

    run(story)
