"""Transactions under a catalog that is slow, refuses, conflicts, loses requests and replies, takes leases away, is opened again.

Clients, readers and the checker are the simulator's (`testing/simulation/transactions`), the engine is the one in memory. What
the catalog does, and when, is Hypothesis' choice: a transaction is visible whole or not at all, nothing that was aborted is ever
seen, nobody is refused without a reason, and nothing stays open when everybody has stopped.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riverlog.broker.broker import Broker
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topics import Topics
from riverlog.env.entropy import SeededEntropy
from riverlog.state.access import AllowAll
from riverlog.storage.memory import MemoryEngine
from riverlog.testing.simulation.catalog import LastingRows
from riverlog.testing.simulation.loop import SimulatedLoop
from riverlog.testing.simulation.run import silence
from riverlog.testing.simulation.transactions.ledger import Fate
from riverlog.testing.simulation.transactions.machine import TransactionMachine
from riverlog.testing.simulation.transactions.service import Service

dials = st.one_of(
    st.tuples(st.sampled_from(["refusals", "conflicts", "lost_requests", "lost_replies"]), st.integers(1, 3)),
    st.tuples(st.just("steal"), st.integers(0, 5)),
    st.tuples(st.just("late"), st.integers(0, 4)),
    st.tuples(st.just("restart"), st.just(0)),
)
histories = st.lists(st.tuples(st.sampled_from([0.001, 0.02, 0.3, 2.0]), dials), max_size=8)


class Small(TransactionMachine):
    """One life of the machine, with several brokers one after another."""

    def __init__(self, seed: int, *, late: bool, history: Any) -> None:
        super().__init__(seed, 0)
        self.late = late
        self.history = history
        self.rows = LastingRows(late=1)
        self.faulty = self.refusing = False
        self.engine: MemoryEngine
        self.works: list[asyncio.Task[None]] = []
        self.restarts = 0

    def run(self) -> None:
        loop = self.loop = SimulatedLoop(self.time, self.entropy)
        loop.live(self.story())
        if self.violation is not None:
            raise self.violation
        assert loop.failures == []

    async def story(self) -> None:
        self.engine = MemoryEngine(clock=self.time, late=self.late)
        service = await self.begin()
        for seconds, (dial, count) in self.history:
            await self.watched(service, seconds)
            if dial == "restart":
                near = service.broker.tasks.start(self.decision(service), name="decision")
                await asyncio.wait([near], timeout=2.0)
                await self.time.sleep(self.entropy.below(4) / 1000)
                await self.end(service)
                self.rows = self.rows.reopened()
                self.restarts += 1
                service = await self.begin()
            elif dial == "steal":
                held = sorted(self.rows.held)
                self.rows.steal(held[count % len(held)])
            else:
                setattr(self.rows, dial, count)
        await self.watched(service, 1.0)
        service.budget = 0
        await asyncio.wait(self.works)
        self.rows.refusals = self.rows.conflicts = self.rows.lost_requests = 0
        await self._quiet(service)
        await self._settle(service)
        await self.end(service)

    async def watched(self, service: Service, seconds: float) -> None:
        """Time passes, and somebody reads."""
        for _ in range(4):
            await self._guarded(self._watch, service)
            await self.time.sleep(seconds / 4)

    async def decision(self, service: Service) -> None:
        """Returns when somebody asks for an end, or was answered."""
        near = asyncio.Event()
        service.peril = lambda partitions: near.set()
        await near.wait()

    async def begin(self) -> Service:
        parts: dict[str, Any] = {
            "settings": BrokerSettings(),
            "catalog": self.rows,
            "clock": self.time,
            "entropy": SeededEntropy(self.restarts),
            "access": AllowAll(),
        }
        topics = parts["topics"] = Topics(**parts)
        await topics.load()
        await topics.attach(self.engine)
        groups = Coordinator(**parts)
        look = self.executor("look", 1)
        broker = Broker(**parts, engine=self.engine, groups=groups, executor=look, cluster_id="c", node_id=1)
        await groups.start()
        await broker.start()
        service = Service(broker, self.time, self.entropy, self.ledger, self.note, 100_000)
        assert await self._has_topics(service)
        self.begun()
        actors = [client.run for client in self.clients] + [plain.run for plain in self.plain]
        assert self.loop is not None
        self.works = [self.loop.create_task(self._guarded(actor, service)) for actor in actors]
        return service

    async def end(self, service: Service) -> None:
        """The broker is gone; those who asked it something are not answered."""
        for work in self.works:
            work.cancel()
        await asyncio.wait(self.works)
        broker = service.broker
        await broker.groups._machines.tasks.close()
        await broker.transactions._machines.tasks.close()
        await broker.tasks.close()
        await broker.topics.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1_000_000), st.booleans(), histories)
def test_transactions_are_whole_whatever_the_catalog_does(seed: int, late: bool, history: Any) -> None:
    machine = Small(seed, late=late, history=history)
    with silence():
        machine.run()
    assert machine.restarts == sum(dial == "restart" for _, (dial, _) in history)


def test_such_histories_commit_abort_and_leave_in_doubt() -> None:
    """Else the test above would see nothing."""
    fates: set[Fate] = set()
    offsets = 0
    for seed in range(6):
        history = [(0.3, ("lost_replies", 1)), (0.02, ("restart", 0)), (0.3, ("conflicts", 1))]
        machine = Small(seed, late=bool(seed % 2), history=history)
        with silence():
            machine.run()
        fates |= {attempt.fate for attempt in machine.ledger.attempts}
        offsets += sum(bool(attempt.offsets) and attempt.fate is Fate.COMMITTED for attempt in machine.ledger.attempts)
    assert fates >= {Fate.COMMITTED, Fate.ABORTED}
    assert offsets
