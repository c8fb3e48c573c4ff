"""The topics that this process knows, and the only way to change one.

Invariant: the catalog is the truth. A change is decided (`state/topics.py`), committed, and comes back through the
feed; only then the engine is told, the cache follows, and whoever asked is answered. So the changes of other
processes take the same way as our own, a topic in the cache has its logs open, and a crash between the catalog and
the engine is healed at the next start: topics without logs get them, logs of a topic that was being deleted go.
At start: `load`, then the engine is opened with what it gave, then `attach`. The cache is `topic_cache.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NO_TOPIC_ID, TopicId, TopicName, topic_id_text
from riverlog.broker.configs import ConfigEntry, broker_entries, topic_defaults_of, topic_entries
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topic_cache import TOPICS, TopicCache, View, read_view, unavailable
from riverlog.broker.topic_cache import Topic as Topic  # part of what this module gives
from riverlog.catalog.contract import (
    Catalog,
    CatalogUnavailable,
    Change,
    CommitId,
    Conflict,
    MaybeCommitted,
    Version,
)
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.env.tasks import Tasks
from riverlog.state.access import CLUSTER, Access, Caller, Operation, Resource, ResourceKind
from riverlog.state.topic_configs import resolve
from riverlog.state.topics import (
    ConfigChange,
    Plan,
    TopicFacts,
    TopicRules,
    TopicSpec,
    check_topic_name,
    decide_config_changes,
    decide_configs,
    decide_create,
    decide_delete,
    decide_forget,
    decide_partitions,
    name_key,
)
from riverlog.storage.contract import LogEngine, TopicLog

log = logging.getLogger(__name__)

resends_max: Final = 5
conflicts_max: Final = 20


class Topics:
    """`by_name` and `by_id` are live views: read them, never keep what depends on them past an await without asking
    again."""

    def __init__(
        self, settings: BrokerSettings, catalog: Catalog, clock: Clock, entropy: Entropy, access: Access
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._clock = clock
        self._entropy = entropy
        self._access = access
        self._rules = TopicRules(
            partition_count=settings.num_partitions,
            replication_factor=settings.default_replication_factor,
            strict_replication=settings.strict_replication,
            defaults=topic_defaults_of(settings),
        )
        resolve({}, self._rules.defaults)
        self._cache = TopicCache(catalog, self._rules.defaults)
        self.by_name = self._cache.by_name
        self.by_id = self._cache.by_id
        self._making: dict[TopicName, asyncio.Task[Topic | RiverlogError]] = {}
        self._tasks = Tasks("topics")

    # start and end

    async def load(self) -> Sequence[TopicLog]:
        """What the engine is to be opened with. Raises STORAGE where the catalog cannot be read."""
        return await self._cache.load()

    async def attach(self, engine: LogEngine) -> None:
        """The engine is open; from now on topics can change. Finishes what a crash left half done."""
        assert self._cache.engine is None, "attached twice"
        self._cache.engine = engine
        for facts in list(self._cache.view.facts.values()):
            if facts.deleting:
                self._tasks.start(self._finish_delete(facts), name=f"finish the deletion of {facts.name}")
        self._tasks.start(self._cache.follow(), name="follow the feed")

    async def close(self) -> None:
        await self._tasks.close()
        self._cache.fail("the broker is stopping")

    def watch(self, changed: Callable[[Topic | None, Topic | None], None]) -> None:
        """`changed(before, after)` is called on the loop after the cache was changed: a topic made (before None),
        changed, or deleted (after None)."""
        self._cache.watchers.append(changed)

    # asking for changes

    async def create(
        self, caller: Caller, specs: Sequence[TopicSpec], *, validate_only: bool = False
    ) -> Sequence[Topic | RiverlogError]:
        """In order of `specs`. With `validate_only` nothing is made, and the topics have no id."""
        names = Counter(spec.name for spec in specs)

        async def one(spec: TopicSpec) -> Topic:
            if names[spec.name] > 1:
                raise RiverlogError(ErrorKind.INVALID_REQUEST, f"topic {spec.name!r} is named twice: name it once")
            self._check_create(caller, spec.name)
            return await self._create(spec, validate_only=validate_only)

        return await _each(one(spec) for spec in specs)

    async def ensure(self, caller: Caller, name: str) -> Topic:
        """The topic of that name, made with the broker's defaults where there is none and `auto.create.topics.enable`.
        Those who ask at once for one name get one topic."""
        if (topic := self.by_name.get(TopicName(name))) is not None:
            return topic
        check_topic_name(name)
        if not self._settings.auto_create_topics:
            raise RiverlogError(
                ErrorKind.UNKNOWN_TOPIC,
                f"topic {name!r} does not exist, and auto.create.topics.enable is false: create it",
            )
        self._check_create(caller, name)
        making = self._making.get(TopicName(name))
        if making is None:
            making = self._tasks.start(self._ensure(TopicName(name)), name=f"make {name}")
            self._making[TopicName(name)] = making
            making.add_done_callback(lambda _: self._making.pop(TopicName(name), None))
        outcome = await asyncio.shield(making)
        if isinstance(outcome, RiverlogError):
            raise outcome
        return outcome

    async def delete(
        self, caller: Caller, keys: Sequence[TopicName | TopicId]
    ) -> Sequence[Topic | RiverlogError]:
        """By name (text) or id (bytes), in that order. The name is free again when this returns."""
        times = Counter(keys)

        async def one(key: TopicName | TopicId) -> Topic:
            if times[key] > 1:
                raise RiverlogError(ErrorKind.INVALID_REQUEST, f"topic {key!r} is named twice: name it once")
            topic = self._allowed(caller, Operation.DELETE, key)
            if not self._settings.delete_topics:
                raise RiverlogError(
                    ErrorKind.TOPIC_DELETION_DISABLED, "topics cannot be deleted: delete.topic.enable is false"
                )
            facts = await self._change(lambda view: decide_delete(_live(view, topic)))
            self._tasks.start(self._forget(facts), name=f"forget {topic.name}")
            return topic

        return await _each(one(key) for key in keys)

    async def add_partitions(
        self,
        caller: Caller,
        name: str,
        count: int,
        assignments: Sequence[Sequence[int]] | None = None,
        *,
        validate_only: bool = False,
    ) -> Topic:
        """`count` is the new total."""
        topic = self._allowed(caller, Operation.ALTER, TopicName(name))
        return await self._changed(
            lambda view: decide_partitions(_live(view, topic), count, assignments, self._rules), validate_only
        )

    async def alter_configs(
        self, caller: Caller, name: str, configs: Mapping[str, str | None], *, validate_only: bool = False
    ) -> Topic:
        """These configurations and no others."""
        topic = self._allowed(caller, Operation.ALTER_CONFIGS, TopicName(name))
        return await self._changed(
            lambda view: decide_configs(_live(view, topic), configs, self._rules), validate_only
        )

    async def incremental_alter(
        self, caller: Caller, name: str, changes: Sequence[ConfigChange], *, validate_only: bool = False
    ) -> Topic:
        """What is not named stays."""
        topic = self._allowed(caller, Operation.ALTER_CONFIGS, TopicName(name))
        return await self._changed(
            lambda view: decide_config_changes(_live(view, topic), changes, self._rules), validate_only
        )

    # asking

    def find(self, key: TopicName | TopicId) -> Topic:
        """Raises UNKNOWN_TOPIC, or for an id UNKNOWN_TOPIC_ID. Asks nobody whether the caller may know."""
        if isinstance(key, str):
            if (topic := self.by_name.get(TopicName(key))) is None:
                raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"topic {key!r} does not exist: create it")
        elif (topic := self.by_id.get(TopicId(key))) is None:
            raise RiverlogError(ErrorKind.UNKNOWN_TOPIC_ID, f"no topic has id {topic_id_text(TopicId(key))}")
        return topic

    def describe(self, caller: Caller, key: TopicName | TopicId) -> Topic:
        """As `find`, for somebody who may see the topic. Raises UNAUTHORIZED."""
        return self._allowed(caller, Operation.DESCRIBE, key)

    def visible(self, caller: Caller) -> Sequence[Topic]:
        """All topics that this caller may see."""
        allows, kind = self._access.allows, ResourceKind.TOPIC
        return [
            topic
            for topic in self.by_name.values()
            if allows(caller, Operation.DESCRIBE, Resource(kind, topic.name))
        ]

    def describe_configs(self, caller: Caller, name: str, keys: Sequence[str] | None) -> Sequence[ConfigEntry]:
        """The configurations of a topic, all or those named; unknown names are left out."""
        self._check(caller, Operation.DESCRIBE_CONFIGS, name)
        topic = self.find(check_topic_name(name))
        return topic_entries(topic.overrides, self._settings, keys)

    def describe_configs_of(self, caller: Caller, topic: Topic, keys: Sequence[str] | None) -> Sequence[ConfigEntry]:
        """As `describe_configs`, of a topic that was perhaps not made (`validate_only`)."""
        self._check(caller, Operation.DESCRIBE_CONFIGS, topic.name)
        return topic_entries(topic.overrides, self._settings, keys)

    def describe_broker_configs(self, caller: Caller, keys: Sequence[str] | None) -> Sequence[ConfigEntry]:
        """The broker's own settings."""
        if not self._access.allows(caller, Operation.DESCRIBE_CONFIGS, CLUSTER):
            raise RiverlogError(ErrorKind.UNAUTHORIZED, "not allowed to see the broker's settings")
        return broker_entries(self._settings, keys)

    # access

    def _allowed(self, caller: Caller, operation: Operation, key: TopicName | TopicId) -> Topic:
        """The topic, for somebody who may do that to it. A refusal tells no more than was asked: of a name not whether
        it exists, of an id not the name."""
        if isinstance(key, str):
            self._check(caller, operation, key)
            return self.find(key)
        topic = self.find(key)
        if not self._access.allows(caller, operation, Resource(ResourceKind.TOPIC, topic.name)):
            what = operation.name.lower().replace("_", " ")
            raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to {what} topic {topic_id_text(topic.topic_id)}")
        return topic

    def _check(self, caller: Caller, operation: Operation, name: str) -> None:
        if not self._access.allows(caller, operation, Resource(ResourceKind.TOPIC, name)):
            what = operation.name.lower().replace("_", " ")
            raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to {what} topic {name!r}")

    def _check_create(self, caller: Caller, name: str) -> None:
        """Kafka's rule: whoever may create in the cluster, or this topic."""
        if not self._access.allows(caller, Operation.CREATE, CLUSTER):
            self._check(caller, Operation.CREATE, name)

    # changing

    async def _create(self, spec: TopicSpec, *, validate_only: bool) -> Topic:
        topic_id = NO_TOPIC_ID if validate_only else self._new_id()

        def decide(view: View) -> Plan:
            taken = view.taken.get(name_key(spec.name))
            return decide_create(spec, topic_id, taken.name if taken is not None else None, self._rules)

        if validate_only:
            return self._cache.topic(decide(self._cache.view).topic)
        facts = await self._change(decide)
        if (error := self._cache.open_failures.pop(topic_id, None)) is not None:
            await self._change(lambda view: decide_delete(view.facts.get(topic_id, facts)))
            self._tasks.start(self._forget(facts), name=f"forget {spec.name}")
            raise error
        return self._cache.topic(facts)

    def _new_id(self) -> TopicId:
        """Never one of the two that Kafka keeps for itself (0 and 1), nor one that prints with a leading dash."""
        while True:
            topic_id = TopicId(self._entropy.token_bytes(16))
            if any(topic_id[:15]) and not topic_id_text(topic_id).startswith("-"):
                return topic_id

    async def _ensure(self, name: TopicName) -> Topic | RiverlogError:
        try:
            return await self._create(TopicSpec(name=name), validate_only=False)
        except RiverlogError as error:
            if error.kind is ErrorKind.TOPIC_EXISTS and name in self.by_name:
                return self.by_name[name]
            return error

    async def _changed(self, decide: Callable[[View], Plan], validate_only: bool) -> Topic:
        if validate_only:
            return self._cache.topic(decide(self._cache.view).topic)
        facts = await self._change(decide)
        if (error := self._cache.open_failures.pop(facts.topic_id, None)) is not None:
            raise error
        return self._cache.topic(facts)

    async def _change(self, decide: Callable[[View], Plan]) -> TopicFacts:
        """Decides and commits, again where somebody else was faster, and waits until the feed has brought it."""
        view = self._cache.view
        for _ in range(conflicts_max):
            plan = decide(view)
            if not plan.rows:
                await self._cache.passed(Version(plan.topic.version))
                return plan.topic
            try:
                version = await self._commit(plan)
                await self._cache.passed(version)
                return replace(plan.topic, version=version)
            except Conflict:
                view = (await read_view(self._catalog))[0]
        raise RiverlogError(ErrorKind.REQUEST_TIMED_OUT, "others keep changing this topic: try again")

    async def _commit(self, plan: Plan) -> Version:
        """Raises Conflict; STORAGE where the catalog does not answer."""
        id = CommitId(self._entropy.token_bytes(16))
        changes = [
            Change(TOPICS, row.key, row.value, Version(row.expected) if row.expected is not None else None)
            for row in plan.rows
        ]
        for _ in range(resends_max):
            try:
                return await self._catalog.commit(id, None, changes)
            except MaybeCommitted as error:
                log.info("committing topic %s again: %s", plan.topic.name, error)
            except CatalogUnavailable as error:
                raise unavailable(error) from error
        raise RiverlogError(ErrorKind.STORAGE, f"the catalog did not say whether topic {plan.topic.name!r} was changed")

    async def _forget(self, facts: TopicFacts) -> None:
        """The row goes once the logs have gone. Not done, it is done at the next start."""
        try:
            await self._commit(decide_forget(facts))
        except RiverlogError as error:
            log.info("deleted topic %s is forgotten at the next start: %s", facts.name, error.message)

    async def _finish_delete(self, facts: TopicFacts) -> None:
        log.info("finishing the deletion of topic %s (%s)", facts.name, topic_id_text(facts.topic_id))
        await self._cache.delete_logs(facts)
        await self._forget(facts)

def _live(view: View, topic: Topic) -> TopicFacts:
    """The facts to decide on. Raises UNKNOWN_TOPIC where the topic went meanwhile."""
    facts = view.facts.get(topic.topic_id)
    if facts is None or facts.deleting:
        raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"topic {topic.name!r} was deleted meanwhile")
    return facts


async def _each(works: Iterable[Coroutine[Any, Any, Topic]]) -> Sequence[Topic | RiverlogError]:
    """All side by side, so that one transaction of the catalog takes them. What is not a RiverlogError is raised."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    done: list[Topic | RiverlogError] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, RiverlogError):
            raise outcome
        done.append(outcome)
    return done
