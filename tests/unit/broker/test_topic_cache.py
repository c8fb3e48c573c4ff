"""The cache of topics: what the feed does to it and to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId, TopicName
from riverlog.broker.topic_cache import TOPICS, TopicCache, log_config, read_view
from riverlog.catalog.contract import Change, CommitId, Scope, Version
from riverlog.catalog.memory import MemoryCatalog
from riverlog.state.topic_configs import resolve
from riverlog.state.topics import TopicFacts, encode_topic, topic_key
from riverlog.storage.contract import LogConfig
from riverlog.testing.recording_engine import RecordingEngine


def facts(number: int, name: str, deleting: bool = False, partition_count: int = 1) -> TopicFacts:
    return TopicFacts(
        topic_id=TopicId(number.to_bytes(16)),
        name=TopicName(name),
        partition_count=partition_count,
        replication_factor=1,
        deleting=deleting,
    )


class World:
    def __init__(self) -> None:
        self.catalog = MemoryCatalog()
        self.engine = RecordingEngine()
        self.cache = TopicCache(self.catalog, {})
        self.cache.engine = self.engine.as_engine()
        self.commits = 0

    async def write(self, *topics: TopicFacts) -> Version:
        """All in one commit."""
        self.commits += 1
        changes = [Change(TOPICS, topic_key(topic.topic_id), encode_topic(topic)) for topic in topics]
        return await self.catalog.commit(CommitId(self.commits.to_bytes(16)), None, changes)


def run(story: Callable[[World], Awaitable[None]]) -> World:
    async def whole() -> World:
        world = World()
        following = asyncio.ensure_future(world.cache.follow())
        await asyncio.wait_for(story(world), 20)
        await world.catalog.close()
        await following
        return world

    return asyncio.run(whole())


def test_a_name_that_goes_and_comes_in_one_step_takes_its_turns_on_the_engine() -> None:
    async def story(world: World) -> None:
        await world.cache.passed(await world.write(facts(1, "a")))
        await world.write(facts(1, "a", deleting=True), facts(2, "b"))
        await world.cache.passed(await world.write(facts(3, "a")))
        assert world.cache.by_name[TopicName("a")].topic_id == TopicId((3).to_bytes(16))
        calls = [call for call in world.engine.calls if " a" in call]
        assert calls == ["open a 1", "delete a", "open a 1"]

    run(story)


def test_rows_of_other_scopes_and_names_are_passed_over() -> None:
    async def story(world: World) -> None:
        changes = [Change(Scope("users", ""), "topic/00", b"?"), Change(TOPICS, "name/a", b"00")]
        version = await world.catalog.commit(CommitId(b"1"), None, changes)
        await world.cache.passed(version)
        assert not world.engine.calls

    run(story)


def test_a_row_removed_by_somebody_else_removes_the_topic() -> None:
    async def story(world: World) -> None:
        topic = facts(1, "a")
        await world.cache.passed(await world.write(topic))
        change = Change(TOPICS, topic_key(topic.topic_id), None)
        await world.cache.passed(await world.catalog.commit(CommitId(b"1"), None, [change]))
        assert not world.cache.by_name
        assert not world.cache.by_id
        assert world.engine.calls == ["open a 1", "delete a"]

    run(story)


def test_an_operating_system_error_is_a_failure_to_open_not_the_end() -> None:
    async def story(world: World) -> None:
        world.engine.failures, world.engine.failure = 1, OSError(24, "Too many open files")
        await world.cache.passed(await world.write(facts(1, "a")))
        assert world.cache.open_failures[TopicId((1).to_bytes(16))].kind is ErrorKind.STORAGE
        assert not world.cache.by_name
        await world.cache.passed(await world.write(facts(2, "b")))
        assert list(world.cache.by_name) == ["b"]

    run(story)


def test_who_waits_is_told_when_the_feed_ends() -> None:
    waits: list[asyncio.Future[None]] = []

    async def story(world: World) -> None:
        waits.append(asyncio.ensure_future(world.cache.passed(Version(99))))

    run(story)
    with pytest.raises(RiverlogError, match="closed"):
        waits[0].result()


def test_a_broken_override_is_served_with_the_defaults_and_said(caplog: pytest.LogCaptureFixture) -> None:
    cache = TopicCache(MemoryCatalog(), {"max.compaction.lag.ms": "5"})
    topic = TopicFacts(
        topic_id=TopicId(bytes(16)),
        name=TopicName("a"),
        partition_count=1,
        replication_factor=1,
        overrides={"min.compaction.lag.ms": "6", "retention.ms": "9"},
    )
    assert cache.topic(topic).config == resolve({}, {"max.compaction.lag.ms": "5"})
    assert "topic a" in caplog.text


def test_an_unavailable_catalog_is_a_storage_error() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        catalog.fail("broken")
        with pytest.raises(RiverlogError) as caught:
            await read_view(catalog)
        assert caught.value.kind is ErrorKind.STORAGE

    asyncio.run(story())


def test_the_defaults_of_topics_and_of_engines_are_the_same() -> None:
    assert log_config(resolve({}, {})) == LogConfig()


def test_topics_with_the_same_configs_share_one_value() -> None:
    cache = TopicCache(MemoryCatalog(), {})
    one, two = cache.topic(facts(1, "a")), cache.topic(facts(2, "b"))
    assert one.config is two.config
    assert log_config(one.config) is log_config(two.config)
