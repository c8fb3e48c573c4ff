"""What this process knows of topics: a cache that only the catalog's feed changes, and the engine beside it.

Invariant: a topic that can be found has its logs open. So a row of the feed goes to the engine first where a log is
made, and out of the cache first where one goes; within one name rows take their turn, because one name is one place
on the disk. Not here: deciding and committing changes, and who may do what (`broker/topics.py`). """

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId, TopicName
from riverlog.catalog.contract import Catalog, CatalogUnavailable, Changed, Scope, Version
from riverlog.state.topic_configs import TopicConfig, resolve
from riverlog.state.topics import TOPIC_PREFIX, TopicFacts, decode_topic, name_key
from riverlog.storage.contract import Durability, LogConfig, LogEngine, TopicLog

log = logging.getLogger(__name__)

TOPICS: Final = Scope("topics", "")
configs_shared_max: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic as everybody sees it. `version` rises with each change of it, `replication_factor` is as it was asked
    for."""

    topic_id: TopicId
    name: TopicName
    partition_count: int
    replication_factor: int
    overrides: Mapping[str, str] = field(default_factory=dict)
    config: TopicConfig
    version: int


class View:
    """What a decision looks at."""

    def __init__(self) -> None:
        self.facts: dict[TopicId, TopicFacts] = {}  # also those that are being deleted
        self.taken: dict[str, TopicFacts] = {}  # by name key

    def put(self, topic: TopicFacts) -> None:
        self.facts[topic.topic_id] = topic
        key = name_key(topic.name)
        if not topic.deleting:
            self.taken[key] = topic
        elif key in self.taken and self.taken[key].topic_id == topic.topic_id:
            del self.taken[key]

    def drop(self, topic_id: TopicId) -> None:
        if (topic := self.facts.pop(topic_id, None)) is not None:
            key = name_key(topic.name)
            if key in self.taken and self.taken[key].topic_id == topic_id:
                del self.taken[key]


class TopicCache:
    """`by_name` and `by_id` are live views: read them, never keep what depends on them past an await without asking
    again. `open_failures`: topics whose logs could not be made, for those who asked for them."""

    def __init__(self, catalog: Catalog, defaults: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._defaults = defaults
        self._configs: dict[tuple[tuple[str, str], ...], TopicConfig] = {}
        self._by_name: dict[TopicName, Topic] = {}
        self._by_id: dict[TopicId, Topic] = {}
        self.by_name: Mapping[TopicName, Topic] = MappingProxyType(self._by_name)
        self.by_id: Mapping[TopicId, Topic] = MappingProxyType(self._by_id)
        self.view = View()
        self.open_failures: dict[TopicId, RiverlogError] = {}
        self.watchers: list[Callable[[Topic | None, Topic | None], None]] = []
        self.engine: LogEngine | None = None
        self._passed = Version(0)
        self._waiting: list[tuple[Version, asyncio.Future[None]]] = []
        self._failure: str | None = None

    async def load(self) -> Sequence[TopicLog]:
        """What the engine is to be opened with: all topics, and those being deleted whose name nobody has taken, so
        that their logs can go. Raises STORAGE where the catalog cannot be read."""
        self.view, self._passed = await read_view(self._catalog)
        logs = []
        for facts in self.view.facts.values():
            if not facts.deleting:
                self._publish(facts)
            if not facts.deleting or name_key(facts.name) not in self.view.taken:
                logs.append(self._topic_log(facts))
        return logs

    def passed(self, version: Version) -> Awaitable[None]:
        """Done when the feed has brought everything up to `version`."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if version <= self._passed:
            passed.set_result(None)
        elif self._failure is not None:
            passed.set_exception(RiverlogError(ErrorKind.STORAGE, self._failure))
        else:
            self._waiting.append((version, passed))
        return passed

    async def follow(self) -> None:
        """Until the catalog is closed or fails; then nobody waits any more."""
        try:
            async for changes in self._catalog.feed(self._passed):
                await self._apply(changes)
                self._passed = changes[-1].version
                due = [waiter for version, waiter in self._waiting if version <= self._passed]
                self._waiting = [waiting for waiting in self._waiting if waiting[0] > self._passed]
                for waiter in due:
                    if not waiter.done():
                        waiter.set_result(None)
        except CatalogUnavailable as error:
            self.fail(str(error))
        finally:
            self.fail("the catalog is closed")

    def fail(self, message: str) -> None:
        self._failure = self._failure or message
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(RiverlogError(ErrorKind.STORAGE, self._failure))
        self._waiting = []

    async def _apply(self, changes: Sequence[Changed]) -> None:
        """In order within a name, because one name is one place on the disk; names side by side."""
        by_name: dict[TopicName, list[TopicFacts | TopicId]] = defaultdict(list)
        for change in changes:
            if change.scope != TOPICS or not change.key.startswith(TOPIC_PREFIX):
                continue
            if change.value is None:
                topic_id = TopicId(bytes.fromhex(change.key.removeprefix(TOPIC_PREFIX)))
                if (known := self.view.facts.get(topic_id)) is not None:
                    by_name[known.name].append(topic_id)
            else:
                facts = decode_topic(change.key, change.value, change.version)
                by_name[facts.name].append(facts)

        async def in_order(steps: Sequence[TopicFacts | TopicId]) -> None:
            for step in steps:
                await self._step(step)

        if len(by_name) == 1:
            await in_order(next(iter(by_name.values())))
        elif by_name:
            await asyncio.gather(*map(in_order, by_name.values()))

    async def _step(self, step: TopicFacts | TopicId) -> None:
        """One row of the feed: the engine first where a log is made, the cache first where one goes."""
        if not isinstance(step, TopicFacts):
            known = self.view.facts.get(step)
            self.view.drop(step)
            if known is not None and step in self._by_id:
                self._unpublish(known)
                await self.delete_logs(known)
            return
        self.view.put(step)
        if step.deleting:
            self._unpublish(step)
            await self.delete_logs(step)
            return
        assert self.engine is not None
        before = self._by_id.get(step.topic_id)
        if before is None or before.partition_count < step.partition_count:
            try:
                await self.engine.open_topic(self._topic_log(step))
            except (RiverlogError, OSError) as error:
                log.error("the logs of topic %s could not be made: %s", step.name, error)
                self.open_failures[step.topic_id] = (
                    error if isinstance(error, RiverlogError) else RiverlogError(ErrorKind.STORAGE, str(error))
                )
                if before is None:
                    return
        topic = self._publish(step)
        if before is not None and before.config != topic.config:
            self.engine.configure(topic.topic_id, log_config(topic.config))

    async def delete_logs(self, facts: TopicFacts) -> None:
        assert self.engine is not None
        try:
            await self.engine.delete_topic(facts.topic_id)
        except RiverlogError as error:
            if error.kind is not ErrorKind.UNKNOWN_TOPIC:
                log.error("the logs of deleted topic %s could not be removed: %s", facts.name, error.message)

    # the cache

    def _publish(self, facts: TopicFacts) -> Topic:
        topic = self.topic(facts)
        before = self._by_id.get(topic.topic_id)
        self._by_id[topic.topic_id] = self._by_name[topic.name] = topic
        for watcher in self.watchers:
            watcher(before, topic)
        return topic

    def _unpublish(self, facts: TopicFacts) -> None:
        if (topic := self._by_id.pop(facts.topic_id, None)) is not None:
            if self._by_name.get(topic.name) is topic:
                del self._by_name[topic.name]
            for watcher in self.watchers:
                watcher(topic, None)

    def topic(self, facts: TopicFacts) -> Topic:
        return Topic(
            topic_id=facts.topic_id,
            name=facts.name,
            partition_count=facts.partition_count,
            replication_factor=facts.replication_factor,
            overrides=facts.overrides,
            config=self._resolve(facts),
            version=facts.version,
        )

    def _resolve(self, facts: TopicFacts) -> TopicConfig:
        """A topic that contradicts the broker's newer defaults is served with the defaults, and said. Topics with the
        same overrides share one value."""
        key = tuple(sorted(facts.overrides.items()))
        if (config := self._configs.get(key)) is None:
            try:
                config = resolve(facts.overrides, self._defaults)
            except RiverlogError as error:
                log.error("topic %s: %s; its configs are ignored until it is altered", facts.name, error.message)
                return resolve({}, self._defaults)
            if len(self._configs) >= configs_shared_max:
                self._configs.clear()
            self._configs[key] = config
        return config

    def _topic_log(self, facts: TopicFacts) -> TopicLog:
        return TopicLog(
            topic_id=facts.topic_id,
            name=facts.name,
            partition_count=facts.partition_count,
            config=log_config(self._resolve(facts)),
        )


@lru_cache(maxsize=configs_shared_max)
def log_config(config: TopicConfig) -> LogConfig:
    """An engine's part of a topic's configuration. Only sealed segments are compacted: `max.compaction.lag.ms` seals too."""
    return LogConfig(
        segment_bytes=config.segment_bytes,
        segment_ms=min(config.segment_ms, config.max_compaction_lag_ms) if config.cleanup_compact else config.segment_ms,
        segment_jitter_ms=config.segment_jitter_ms,
        preallocate=config.preallocate,
        index_interval_bytes=config.index_interval_bytes,
        segment_index_bytes=config.segment_index_bytes,
        retention_ms=config.retention_ms,
        retention_bytes=config.retention_bytes,
        cleanup_delete=config.cleanup_delete,
        cleanup_compact=config.cleanup_compact,
        min_cleanable_dirty_ratio=config.min_cleanable_dirty_ratio,
        min_compaction_lag_ms=config.min_compaction_lag_ms,
        max_compaction_lag_ms=config.max_compaction_lag_ms,
        delete_retention_ms=config.delete_retention_ms,
        file_delete_delay_ms=config.file_delete_delay_ms,
        flush_messages=config.flush_messages,
        flush_ms=config.flush_ms,
        log_append_time=config.log_append_time,
        durability=Durability(config.durability),
    )


async def read_view(catalog: Catalog) -> tuple[View, Version]:
    """The topics as the catalog has them, and a version from which the feed goes on. Raises STORAGE."""
    view, version = View(), Version(0)
    try:
        rows = await catalog.load(TOPICS)
    except CatalogUnavailable as error:
        raise unavailable(error) from error
    for key, row in rows.items():
        version = max(version, row.version)
        if key.startswith(TOPIC_PREFIX):
            view.put(decode_topic(key, row.value, row.version))
    return view, version


def unavailable(error: CatalogUnavailable) -> RiverlogError:
    return RiverlogError(ErrorKind.STORAGE, f"the catalog is not available: {error}")
