"""The broker: one object that every gateway, the library and SQL talk to. It holds the parts and adds nothing of its own."""

from __future__ import annotations

from riverlog.broker.coordinator import Coordinator
from riverlog.broker.fetch import Fetching
from riverlog.broker.produce import Producing
from riverlog.broker.producer_ids import ProducerIds
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.telemetry import Telemetry
from riverlog.broker.topics import Topic, Topics
from riverlog.broker.transactions import Transactions
from riverlog.catalog.contract import Catalog
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.env.executor import Executor
from riverlog.env.tasks import Tasks
from riverlog.state.access import Access
from riverlog.storage.contract import LogEngine


class Broker:
    """`close` ends waits and background tasks; engine and catalog are closed by who made them."""

    def __init__(
        self,
        *,
        settings: BrokerSettings,
        engine: LogEngine,
        catalog: Catalog,
        topics: Topics,
        groups: Coordinator,
        access: Access,
        clock: Clock,
        entropy: Entropy,
        executor: Executor,
        cluster_id: str,
        node_id: int,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.catalog = catalog
        self.topics = topics
        self.groups = groups
        self.access = access
        self.clock = clock
        self.entropy = entropy
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.telemetry = Telemetry()
        self.tasks = Tasks("broker")
        self.producer_ids = ProducerIds(catalog, entropy)
        self.transactions = Transactions(
            settings=settings,
            catalog=catalog,
            engine=engine,
            topics=topics,
            groups=groups,
            producer_ids=self.producer_ids,
            clock=clock,
            entropy=entropy,
            access=access,
            counters=self.telemetry.transactions,
        )
        groups.outcomes = self.transactions.outcome
        self.producing = self.transactions.producing = Producing(
            engine,
            access,
            clock,
            executor,
            self.tasks,
            self.telemetry,
            self.transactions,
            strict_replication=settings.strict_replication,
        )
        self.fetching = Fetching(engine, access, self.telemetry)
        topics.watch(self._topic_changed)

    def _topic_changed(self, before: Topic | None, after: Topic | None) -> None:
        """The counters of a topic go with it."""
        if before is not None and after is None:
            self.telemetry.topics.pop(before.topic_id, None)

    async def start(self) -> None:
        """What runs without being asked. The groups are started by who made them."""
        await self.transactions.start()

    async def close(self) -> None:
        self.fetching.close()
        await self.transactions.close()
        await self.tasks.close()
