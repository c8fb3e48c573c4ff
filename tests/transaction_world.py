"""Brokers one after another over the rows and logs of one process's memory: for tests that end one in the middle of something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicName
from riverlog.broker.broker import Broker
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.group_requests import PartitionCommit, TopicAsked, TopicCommit
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topics import Topic, Topics
from riverlog.catalog.contract import Change, CommitId, Lease, Version
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.env.executor import ThreadExecutor
from riverlog.records.batch import records_of
from riverlog.records.header import read_header
from riverlog.state.access import LIBRARY_CALLER, Access, AllowAll
from riverlog.state.transactions.commands import TransactionState
from riverlog.storage.contract import Appended, EndMarker, Fetched, Isolation, Read, Refused
from riverlog.storage.memory import MemoryEngine
from riverlog.testing.brokers import make_topic
from riverlog.testing.clock import ManualClock

TOPIC = "t"
OFFSETS = [TopicCommit("input", None, [PartitionCommit(0, 7)])]


class Engine(MemoryEngine):
    """`refusals`: that many markers are refused first, with the error beside it."""

    refusals: int = 0
    refusal = RiverlogError(ErrorKind.STORAGE, "told to refuse")
    marker_calls: int = 0
    hold: asyncio.Future[None] | None = None  # markers wait for it

    def end_transactions(self, markers: Sequence[EndMarker]) -> Awaitable[Sequence[Appended | Refused]]:
        return self._end(markers)

    async def _end(self, markers: Sequence[EndMarker]) -> Sequence[Appended | Refused]:
        self.marker_calls += 1
        if self.hold is not None:
            await asyncio.shield(self.hold)
        refused = min(self.refusals, len(markers))
        self.refusals -= refused
        return [Refused(self.refusal)] * refused + [*await super().end_transactions(markers[refused:])]


class Catalog(MemoryCatalog):
    """Dies at commit number `dies_at`, before or after it is done: nothing is answered from then on."""

    dies_at: int = -1
    dies_after: bool = False
    count: int = 0

    async def commit(self, id: CommitId, lease: Lease | None, changes: Sequence[Change]) -> Version:
        self.count += 1
        if 0 <= self.dies_at < self.count:
            if self.dies_after and self.count == self.dies_at + 1:
                await super().commit(id, lease, changes)
            await asyncio.get_running_loop().create_future()
        return await super().commit(id, lease, changes)


class World:
    """One broker at a time. Topics `t` with two partitions and `input` with one."""

    def __init__(self, *, late: bool = True, settings: BrokerSettings | None = None, access: Access | None = None) -> None:
        self.clock = ManualClock()
        self.settings = settings or BrokerSettings()
        self.access = access or AllowAll()
        self.catalog = Catalog(late=2 if late else 0)
        self.engine = Engine(clock=self.clock, late=late)
        self.executor = ThreadExecutor("look")
        self.broker: Broker
        self.topics: Topics
        self.seed = 0

    async def start(self) -> Broker:
        self.seed += 1
        entropy = SeededEntropy(self.seed)
        self.topics = Topics(self.settings, self.catalog, self.clock, entropy, AllowAll())
        await self.topics.load()
        await self.topics.attach(self.engine)
        groups = Coordinator(
            settings=self.settings,
            catalog=self.catalog,
            topics=self.topics,
            clock=self.clock,
            entropy=entropy,
            access=self.access,
        )
        self.broker = Broker(
            settings=self.settings,
            engine=self.engine,
            catalog=self.catalog,
            topics=self.topics,
            groups=groups,
            access=self.access,
            clock=self.clock,
            entropy=entropy,
            executor=self.executor,
            cluster_id="test-cluster",
            node_id=1,
        )
        await groups.start()
        await self.broker.start()
        if TopicName(TOPIC) not in self.topics.by_name:
            await make_topic(self.broker, TOPIC, partitions=2)
            await make_topic(self.broker, "input")
        return self.broker

    async def kill(self) -> None:
        """Ends the broker where it stands; rows and logs stay as they are."""
        await self.broker.transactions._machines.tasks.close()
        await self.broker.groups._machines.tasks.close()
        await self.broker.tasks.close()
        await self.topics.close()
        before = self.catalog
        before._feeds.close()
        self.catalog = Catalog(late=before.late)
        other = before.reopened()
        self.catalog.__dict__.update({key: value for key, value in other.__dict__.items() if key.startswith("_")})
        self.catalog._feeds = type(other._feeds)(self.catalog._history)

    async def restart(self) -> Broker:
        await self.kill()
        return await self.start()

    async def stop(self) -> None:
        await self.broker.close()
        await self.broker.groups.close()
        await self.topics.close()
        await self.engine.close()
        await self.catalog.close()
        self.executor.close()

    # ------------------------------------------------------------------ looking

    def partition(self, index: int = 0) -> PartitionId:
        return PartitionId(self.topic.topic_id, index)

    @property
    def topic(self) -> Topic:
        return self.topics.by_name[TopicName(TOPIC)]

    async def values(self, index: int = 0) -> list[bytes | None]:
        """What a reader of committed records sees."""
        partition = self.partition(index)
        fetched = self.engine.read([Read(partition, Offset(0), 1 << 20)], 1 << 20, Isolation.READ_COMMITTED)
        fetched = fetched if isinstance(fetched, Fetched) else await fetched
        (found,) = fetched.partitions
        data = b"".join(bytes(part) for part in found.slices.parts)  # type: ignore[arg-type]
        aborted = list(found.aborted or ())
        fetched.close()
        values: list[bytes | None] = []
        gone: set[int] = set()
        while data:
            header = read_header(data)
            for one in [one for one in aborted if one.first_offset <= header.base_offset]:
                gone.add(one.producer_id)
                aborted.remove(one)
            if header.is_control:
                gone.discard(header.producer_id)
            elif header.producer_id not in gone:
                values += [record.value for record in records_of(data, header)]
            data = data[header.size :]
        return values

    async def offset(self) -> int | None:
        """What the group has committed."""
        asked = [TopicAsked("input", None, [0])]
        (topic,) = await self.broker.groups.fetch_offsets(LIBRARY_CALLER, "g", asked)
        committed = topic.partitions[0].committed
        return None if committed is None else committed.offset

    def is_stable(self) -> bool:
        """Whether no transaction holds a reader back."""
        marks = [self.engine.watermarks(self.partition(index)) for index in (0, 1)]
        return all(mark.last_stable_offset == mark.log_end for mark in marks)

    async def state(self, transactional_id: str = "tx") -> TransactionState | None:
        (described,) = await self.broker.transactions.describe(LIBRARY_CALLER, [transactional_id])
        return described.state if described.error is None else None

    async def until(self, true: Callable[[], bool] | Callable[[], Awaitable[bool]], step_ms: int = 0) -> None:
        """Lets the loop turn, and with `step_ms` the clock move, until it is so."""
        for _ in range(3000):
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            self.clock.advance(step_ms)
            await turns(3)
        raise AssertionError("it never came")


async def turns(count: int = 20) -> None:
    for _ in range(count):
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn


def play(story: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        world = World(**options)
        await world.start()
        try:
            await story(world)
        finally:
            await world.stop()

    asyncio.run(main())
