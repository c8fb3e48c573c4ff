"""A whole broker in memory without a socket, for tests of what runs on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from riverlog.base.errors import RiverlogError
from riverlog.broker.broker import Broker
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topics import Topic, Topics
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.clock import Clock
from riverlog.env.entropy import SeededEntropy
from riverlog.env.executor import ThreadExecutor
from riverlog.state.access import LIBRARY_CALLER, Access, AllowAll
from riverlog.state.topics import TopicSpec
from riverlog.storage.memory import MemoryEngine
from riverlog.testing.clock import ManualClock


@asynccontextmanager
async def memory_broker(
    *,
    settings: BrokerSettings | None = None,
    access: Access | None = None,
    late: bool = False,
    clock: Clock | None = None,
    seed: int = 1,
) -> AsyncIterator[Broker]:
    """`late`: the engine answers turns of the loop after it was asked, as a cluster's will. `access` rules over the requests
    of clients; topics that a test makes itself with `make_topic` are made under it too."""
    settings = settings or BrokerSettings()
    access = access or AllowAll()
    clock = clock or ManualClock()
    entropy = SeededEntropy(seed)
    catalog = MemoryCatalog()
    topics = Topics(settings, catalog, clock, entropy, access)
    await topics.load()
    engine = MemoryEngine(clock=clock, late=late)
    await topics.attach(engine)
    groups = Coordinator(
        settings=settings, catalog=catalog, topics=topics, clock=clock, entropy=entropy, access=access
    )
    executor = ThreadExecutor("look")
    broker = Broker(
        settings=settings,
        engine=engine,
        catalog=catalog,
        topics=topics,
        groups=groups,
        access=access,
        clock=clock,
        entropy=entropy,
        executor=executor,
        cluster_id="test-cluster",
        node_id=1,
    )
    await groups.start()
    await broker.start()
    try:
        yield broker
    finally:
        await broker.close()
        await groups.close()
        await topics.close()
        await engine.close()
        await catalog.close()
        executor.close()


async def make_topic(broker: Broker, name: str, partitions: int = 1, **configs: str) -> Topic:
    """`cleanup_policy="compact"` stands for cleanup.policy. Raises RiverlogError."""
    texts: dict[str, str | None] = {key.replace("_", "."): value for key, value in configs.items()}
    (outcome,) = await broker.topics.create(
        LIBRARY_CALLER, [TopicSpec(name=name, partition_count=partitions, configs=texts)]
    )
    if isinstance(outcome, RiverlogError):
        raise outcome
    return outcome
