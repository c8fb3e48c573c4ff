"""The composition root: from settings to a broker that listens. Here, and only here, engine and catalog get their names.

Order of a start: catalog, topics, engine (recovers), broker, groups, transactions, listeners. A stop is the same order from
its end: nobody new is let in, what is in flight is answered, then everything is synced and marked clean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import PartitionId, TopicId, topic_id_text
from riverlog.base.seldom import Seldom
from riverlog.broker.broker import Broker
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.topics import Topics
from riverlog.catalog.contract import Catalog
from riverlog.env.clock import Clock, SystemClock
from riverlog.env.entropy import Entropy, SystemEntropy
from riverlog.env.executor import ThreadExecutor
from riverlog.env.sockets import Listener, Session, Transport, listen
from riverlog.env.tasks import Tasks
from riverlog.gateways.kafka.dispatch import Address, load_handlers
from riverlog.gateways.kafka.session import KafkaGateway
from riverlog.server.addresses import HostPort
from riverlog.server.settings import ServerSettings
from riverlog.state.access import AllowAll, Caller
from riverlog.state.topics import TopicSpec
from riverlog.storage.contract import Durability, LogEngine, TopicLog

log = logging.getLogger(__name__)

drain_seconds_max: Final = 5.0
idle_check_seconds_max: Final = 30.0
drain_step_seconds: Final = 0.01


@dataclass(slots=True)
class Stores:
    """Where facts and records are kept, and who they are."""

    catalog: Catalog
    topics: Topics
    engine: LogEngine
    cluster_id: str
    node_id: int


class _Failures:
    """What a running server cannot go on after: the first one is kept, and wakes who waits for it."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()
        self.message = ""

    def append(self, message: str) -> None:
        if not self.happened.is_set():
            self.message = message
            self.happened.set()


http_complaints_interval_ms: Final = 60_000


class Server:
    """One running broker. Made by `start`, ended by `stop`; both once."""

    def __init__(self, settings: ServerSettings, broker: Broker, stack: AsyncExitStack) -> None:
        self.settings = settings
        self.broker = broker
        self.tasks = Tasks("server")
        self.gateway = KafkaGateway(broker, self.tasks, _advertised(settings))
        self.listeners: list[Listener] = []
        self.kafka: HostPort = settings.kafka
        self.http: HostPort | None = None
        self.http_complaints = Seldom(http_complaints_interval_ms)
        self.failures = _Failures()
        self._stack = stack

    @classmethod
    async def start(cls, settings: ServerSettings, *, in_memory: bool = False, http: bool = True) -> Server:
        """Raises RiverlogError or OSError, with everything closed again, where it cannot serve."""
        load_handlers()
        failures = _Failures()
        clock: Clock = SystemClock()
        entropy: Entropy = SystemEntropy()
        async with AsyncExitStack() as stack:
            if in_memory:
                stores = await _in_memory(settings, clock, entropy, stack)
            else:
                stores = await _in_directory(settings, clock, entropy, failures.append, stack)
            server = cls(settings, await _broker(settings, stores, clock, entropy, stack), stack)
            server.failures = failures
            stack.push_async_callback(server._close_listeners)
            server._listen(http)
            announce = getattr(stores.engine, "announce", None)
            if announce is not None:
                announce({"kafka": server.kafka.text} | ({"http": server.http.text} if server.http else {}))
            server._stack = stack.pop_all()
            return server
        raise AssertionError("not reached")

    def _listen(self, http: bool) -> None:
        settings = self.settings
        kafka = Listener(
            "kafka",
            listen(settings.kafka.host, settings.kafka.port),
            self.gateway.session,
            connections_max=settings.broker.connections_max,
            connections_per_ip_max=settings.broker.connections_per_ip_max,
        )
        self.listeners.append(kafka)
        self.kafka = HostPort(*kafka.address)
        if http:
            web = Listener(
                "http",
                listen(settings.http.host, settings.http.port),
                self._http_session,
                connections_max=settings.broker.connections_max,
                connections_per_ip_max=settings.broker.connections_per_ip_max,
            )
            self.listeners.append(web)
            self.http = HostPort(*web.address)
        self.tasks.start(self._close_idle(), name="close idle connections")
        for listener in self.listeners:
            listener.start()

    def _http_session(self, transport: Transport) -> Session:
        from riverlog.server.http import http_session  # h11 is imported by the first HTTP connection

        return http_session(self, transport)

    async def _close_idle(self) -> None:
        """Closes connections that sent nothing for `connections.max.idle.ms`."""
        clock = self.broker.clock
        idle_ms_max = self.settings.broker.connections_idle_ms_max
        while True:
            await clock.sleep(min(idle_check_seconds_max, idle_ms_max / 1000))
            now_ms = clock.monotonic_ms()
            for listener in self.listeners:
                for transport in list(listener.transports):
                    if transport.session is not None and transport.session.idle_ms(now_ms) >= idle_ms_max:
                        log.debug("%s: %s was idle; closed", listener.name, transport.peer)
                        transport.close()

    async def create_topic(self, caller: Caller, name: str, partitions: int, configs: Mapping[str, str]) -> None:
        """Raises RiverlogError."""
        (outcome,) = await self.broker.topics.create(
            caller, [TopicSpec(name=name, partition_count=partitions, configs=dict(configs))]
        )
        if isinstance(outcome, RiverlogError):
            raise outcome

    async def stop(self) -> None:
        """Lets nobody in, answers what is in flight, syncs, marks a clean stop."""
        await self._stack.aclose()

    async def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.stop_accepting()
        self.broker.fetching.close()
        self.gateway.stop_reading()
        await self.broker.groups.close()  # who waits for other members of a group would hold up the end
        clock = self.broker.clock
        until_ms = clock.monotonic_ms() + round(drain_seconds_max * 1000)
        while self.gateway.busy and clock.monotonic_ms() < until_ms:
            await clock.sleep(drain_step_seconds)
        for listener in self.listeners:
            listener.close()
        await self.tasks.close()


def _advertised(settings: ServerSettings) -> Address | None:
    return Address(settings.advertise.host, settings.advertise.port) if settings.advertise is not None else None


async def _broker(
    settings: ServerSettings, stores: Stores, clock: Clock, entropy: Entropy, stack: AsyncExitStack
) -> Broker:
    access = AllowAll()
    groups = Coordinator(
        settings=settings.broker,
        catalog=stores.catalog,
        topics=stores.topics,
        clock=clock,
        entropy=entropy,
        access=access,
    )
    executor = ThreadExecutor("look", threads=2)
    stack.callback(executor.close)
    broker = Broker(
        settings=settings.broker,
        engine=stores.engine,
        catalog=stores.catalog,
        topics=stores.topics,
        groups=groups,
        access=access,
        clock=clock,
        entropy=entropy,
        executor=executor,
        cluster_id=stores.cluster_id,
        node_id=stores.node_id,
    )
    stack.push_async_callback(broker.close)
    stack.push_async_callback(groups.close)
    await groups.start()
    await broker.start()
    await _cut_offsets(stores, groups)
    return broker


async def _cut_offsets(stores: Stores, groups: Coordinator) -> None:
    """With durability page-cache a log may come back shorter than what groups have committed of it."""
    for topic in list(stores.topics.by_name.values()):
        if topic.config.durability == Durability.PAGE_CACHE.value:
            for index in range(topic.partition_count):
                partition = PartitionId(topic.topic_id, index)
                try:
                    log_end = stores.engine.watermarks(partition).log_end
                except RiverlogError:
                    continue  # offline: nothing is known of its end
                await groups.cut_offsets_beyond(partition, log_end)


async def _in_memory(settings: ServerSettings, clock: Clock, entropy: Entropy, stack: AsyncExitStack) -> Stores:
    from riverlog.catalog.memory import MemoryCatalog
    from riverlog.storage.memory import MemoryEngine

    catalog = MemoryCatalog()
    topics = Topics(settings.broker, catalog, clock, entropy, AllowAll())
    engine = MemoryEngine(clock=clock, node_id=settings.storage.node_id)
    stack.push_async_callback(engine.close)
    for topic in await topics.load():
        await engine.open_topic(topic)
    await topics.attach(engine)
    stack.push_async_callback(topics.close)
    cluster_id = settings.storage.cluster_id or topic_id_text(TopicId(entropy.token_bytes(16)))
    return Stores(catalog, topics, engine, cluster_id, settings.storage.node_id)


async def _in_directory(
    settings: ServerSettings, clock: Clock, entropy: Entropy, failed: Callable[[str], None], stack: AsyncExitStack
) -> Stores:
    """The catalog is opened between the engine's lock and its recovery: it says which topics there are."""
    from riverlog.catalog.sqlite import SqliteCatalog
    from riverlog.env.files import RealFiles
    from riverlog.storage.local.engine import LocalEngine

    directory = str(settings.data_dir)
    opened: list[tuple[SqliteCatalog, Topics]] = []

    async def topics_of_catalog() -> Sequence[TopicLog]:
        executor = ThreadExecutor("catalog")
        stack.callback(executor.close)
        catalog = await SqliteCatalog.open(f"{directory}/catalog.db", executor, failed)
        stack.push_async_callback(catalog.close)
        topics = Topics(settings.broker, catalog, clock, entropy, AllowAll())
        opened.append((catalog, topics))
        return await topics.load()

    engine = await LocalEngine.open(
        directory, settings.storage, files=RealFiles(), clock=clock, entropy=entropy, topics=topics_of_catalog
    )
    stack.push_async_callback(engine.close)
    catalog, topics = opened[0]
    engine.starts = catalog.starts  # the epoch of the leases that fences are made of
    await topics.attach(engine)
    stack.push_async_callback(topics.close)
    return Stores(catalog, topics, engine, engine.cluster_id, engine.node_id)
