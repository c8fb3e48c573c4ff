"""One process's topics without a server: a memory catalog, an engine that only remembers, and the Kafka handlers.

`ask` takes a request through the codec of its version to its handler and the answer back through the codec, so a test of a
handler sees what a client would. Not here: records, sockets, and of groups all but their configurations.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from riverlog.broker.group_configs import GroupConfigs
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topics import Topic, Topics
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.env.tasks import Tasks
from riverlog.gateways.kafka.dispatch import HANDLERS, Address, Call
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.wire import (
    Message,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    is_flexible,
)
from riverlog.state.access import LIBRARY_CALLER, Access, AllowAll, Caller, Operation, Resource
from riverlog.state.topics import TopicSpec
from riverlog.testing.clock import ManualClock
from riverlog.testing.recording_engine import RecordingEngine


class Denies:
    """Everything is allowed but these operations; with `names` only on resources of those names."""

    def __init__(self, *operations: Operation, names: tuple[str, ...] = ()) -> None:
        self.operations = operations
        self.names = names

    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return operation not in self.operations or bool(self.names and resource.name not in self.names)


class TopicWorld:
    """`access` may be changed at any time; it is asked anew for each request."""

    def __init__(self, catalog: MemoryCatalog, settings: BrokerSettings, seed: int) -> None:
        self.catalog = catalog
        self.engine = RecordingEngine()
        self.access: Access = AllowAll()
        self.topics = Topics(settings, catalog, ManualClock(), SeededEntropy(seed), self)
        self.group_configs = GroupConfigs(settings, catalog, SeededEntropy(seed), self)
        self.broker: Any = SimpleNamespace(
            topics=self.topics,
            groups=SimpleNamespace(configs=self.group_configs),
            engine=self.engine,
            settings=settings,
            access=self,
            cluster_id="a-cluster",
            node_id=7,
        )

    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return self.access.allows(caller, operation, resource)

    async def made(self, name: str, partition_count: int = 1, **configs: str) -> Topic:
        """A new topic; `retention_ms="5"` is the config `retention.ms`."""
        named = {key.replace("_", "."): value for key, value in configs.items()}
        spec = TopicSpec(name=name, partition_count=partition_count, configs=named)
        (topic,) = await self.topics.create(LIBRARY_CALLER, [spec])
        assert isinstance(topic, Topic), topic
        return topic

    def call(self, version: int) -> Call:
        """What a handler gets beside its request."""
        nothing: Any = None  # no connection, so neither lane nor sessions
        return Call(self.broker, LIBRARY_CALLER, version, Address("127.0.0.1", 9092), nothing, nothing)

    async def ask(self, api_key: ApiKey, version: int, request: Message) -> Any:
        """The decoded answer."""
        frame = encode_request(api_key, version, 1, None, request)
        # length, key, version, correlation id, null client id; then the tags of a flexible header
        position = 15 if is_flexible(api_key, version) else 14
        decoded = decode_request(api_key, version, frame, position)
        handler = HANDLERS[api_key]
        assert version in handler.versions, (api_key, version)
        answer = handler.function(self.call(version), decoded)
        if inspect.isawaitable(answer):
            answer = await answer
        parts: Any = encode_response(api_key, version, 1, answer)
        return decode_response(api_key, version, b"".join(parts)[4:])[1]


@asynccontextmanager
async def topic_world(
    catalog: MemoryCatalog | None = None, settings: BrokerSettings | None = None, seed: int = 1
) -> AsyncIterator[TopicWorld]:
    """A started process, stopped at the end. `seed` gives the topic ids: two processes of one catalog take two."""
    world = TopicWorld(catalog or MemoryCatalog(), settings or BrokerSettings(), seed)
    for topic in await world.topics.load():
        await world.engine.open_topic(topic)
    await world.topics.attach(world.engine.as_engine())
    await world.group_configs.load()
    tasks = Tasks("test")
    tasks.start(world.group_configs.follow(), name="follow the configs of groups")
    try:
        yield world
    finally:
        await tasks.close()
        await world.topics.close()
        await world.catalog.close()


async def settled(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until the condition holds."""
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        if condition():
            return
        turn: asyncio.Future[None] = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
    raise AssertionError("it never came about")
