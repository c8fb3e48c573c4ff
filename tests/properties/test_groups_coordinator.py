"""The coordinator under a catalog that is slow, refuses, conflicts, loses requests and replies, and takes leases away.

Whatever it does: every request is answered, an offset that was acknowledged or read once is read by who asks later, and what is
read was committed by somebody.
"""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import TopicId
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.group_requests import MemberAsked, PartitionCommit, TopicAsked, TopicCommit
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.contract import Scope
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.state.access import AllowAll, Caller
from riverlog.testing.clock import ManualClock

CALLER = Caller("User:ANONYMOUS", "cli", "kafka", "127.0.0.1:50000")
TOPIC = SimpleNamespace(name="t", topic_id=TopicId(b"t" * 16), partition_count=2)
TOPICS: Any = SimpleNamespace(by_name={"t": TOPIC}, by_id={TOPIC.topic_id: TOPIC}, watch=lambda changed: None)
GROUPS = ("g", "h")


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = ManualClock()
        self.catalog = MemoryCatalog(late=self.random.randrange(1, 4))
        self.coordinator = self.start()
        self.acknowledged: dict[tuple[str, int], int] = {}
        self.attempted: dict[tuple[str, int], int] = {}
        self.seen: dict[tuple[str, int], int] = {}
        self.refusals = 0
        self.done = False

    def start(self) -> Coordinator:
        return Coordinator(
            settings=BrokerSettings(),
            catalog=self.catalog,
            topics=TOPICS,
            clock=self.clock,
            entropy=SeededEntropy(self.random.randrange(1000)),
            access=AllowAll(),
        )

    async def write(self, group: str, index: int, count: int) -> None:
        """Commits 1, 2, 3, … one after another; what is refused is not tried again, the next offset is."""
        place = (group, index)
        for offset in range(1, count + 1):
            self.attempted[place] = offset
            commit = [TopicCommit("t", None, [PartitionCommit(index, offset)])]
            try:
                answer = await self.coordinator.commit_offsets(CALLER, group, MemberAsked(), commit)
            except RiverlogError:
                self.refusals += 1
                await turn()
            else:
                assert answer == [[None]]
                self.acknowledged[place] = offset

    async def read(self, group: str, index: int) -> None:
        """Reads on and on: never less than what was acknowledged, or read by somebody, before the question."""
        place = (group, index)
        while not self.done:
            known = max(self.acknowledged.get(place, -1), self.seen.get(place, -1))
            try:
                (topic,) = await self.coordinator.fetch_offsets(CALLER, group, [TopicAsked("t", None, [index])])
            except RiverlogError:
                self.refusals += 1
            else:
                committed = topic.partitions[0].committed
                offset = -1 if committed is None else committed.offset
                assert known <= offset <= self.attempted.get(place, -1)
                self.seen[place] = max(offset, self.seen.get(place, -1))
            await turn()

    def meddle(self) -> None:
        """Something goes wrong, or time passes."""
        match self.random.randrange(12):
            case 0:
                self.catalog.refusals = 1
            case 1:
                self.catalog.conflicts = 1
            case 2:
                self.catalog.lost_requests = self.random.randrange(1, 4)
            case 3:
                self.catalog.lost_replies = 1
            case 4:
                self.catalog.steal(Scope("group", self.random.choice(GROUPS)))
            case 5:
                self.catalog.late = self.random.randrange(6)
            case _:
                self.clock.advance(self.random.choice([1, 50, 700]))


async def turn() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


@pytest.mark.parametrize("seed", range(30))
def test_what_was_acknowledged_is_read(seed: int) -> None:
    async def story() -> None:
        world = World(seed)
        await world.coordinator.start()
        places = [(group, index) for group in GROUPS for index in (0, 1)]
        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(world.write(group, index, 40)) for group, index in places]
            for group, index in places:
                tasks.create_task(world.read(group, index))
            turns = 0
            while not all(writer.done() for writer in writers):
                await turn()
                turns += 1
                assert turns < 100_000, "somebody is never answered"
                if world.random.random() < 0.4:
                    world.meddle()
                if world.random.random() < 0.01:
                    await world.coordinator.close()
                    world.catalog = world.catalog.reopened()
                    world.coordinator = world.start()
                    await world.coordinator.start()
            world.done = True
            world.catalog.refusals = world.catalog.conflicts = world.catalog.lost_requests = 0
            for _ in range(200):
                world.clock.advance(100)
                await turn()
        for group, index in places:
            world.done = False
            reading = asyncio.get_running_loop().create_task(world.read(group, index))
            await turn()
            world.done = True
            await reading
        await world.coordinator.close()
        assert world.acknowledged

    asyncio.run(story())
