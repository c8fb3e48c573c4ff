"""The registry of topics: the way of a change through catalog, feed and engine, and what a crash leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NO_TOPIC_ID, TopicId, TopicName
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.topic_cache import TOPICS, Topic, log_config
from riverlog.catalog.contract import Change, CommitId
from riverlog.catalog.memory import MemoryCatalog
from riverlog.state.access import LIBRARY_CALLER, DenyAll
from riverlog.state.topics import ConfigChange, ConfigOperation, TopicSpec, decide_delete, decode_topic, topic_key
from riverlog.storage.contract import Durability
from riverlog.testing.topic_world import TopicWorld, settled, topic_world

T = TypeVar("T")


async def create(one: TopicWorld, *specs: TopicSpec) -> Sequence[Topic | RiverlogError]:
    return await one.topics.create(LIBRARY_CALLER, specs)


def run(story: Callable[[], Awaitable[T]]) -> T:
    async def wrapped() -> T:
        return await asyncio.wait_for(story(), 20)

    return asyncio.run(wrapped())


async def refusal(work: Awaitable[object]) -> RiverlogError:
    with pytest.raises(RiverlogError) as caught:
        await work
    return caught.value


@pytest.mark.parametrize("late", [0, 3])
def test_a_created_topic_has_its_logs_and_is_found_by_name_and_id(late: int) -> None:
    async def story() -> None:
        async with topic_world(MemoryCatalog(late=late)) as one:
            topic = await one.made("flights", 4, retention_ms="-1")
            assert one.engine.calls == ["open flights 4"]
            assert one.topics.by_name[TopicName("flights")] == one.topics.by_id[topic.topic_id] == topic
            assert topic.config.retention_ms == -1
            assert one.engine.topics[topic.topic_id].config.retention_ms == -1
            assert topic.topic_id != NO_TOPIC_ID

    run(story)


def test_defaults_come_from_the_settings() -> None:
    async def story() -> None:
        settings = BrokerSettings(
            num_partitions=3, default_replication_factor=2, topic_defaults={"retention.ms": "5"}, message_bytes_max=77
        )
        async with topic_world(settings=settings) as one:
            topic = await one.made("a", -1)
            assert (topic.partition_count, topic.replication_factor) == (3, 2)
            assert (topic.config.retention_ms, topic.config.max_message_bytes) == (5, 77)

    run(story)


def test_each_topic_of_a_request_is_answered_for_itself() -> None:
    async def story() -> None:
        async with topic_world() as one:
            await one.made("old")
            outcomes = await create(
                one,
                TopicSpec(name="new"),
                TopicSpec(name="old"),
                TopicSpec(name="no/slash"),
                TopicSpec(name="twice"),
                TopicSpec(name="twice"),
                TopicSpec(name="none", partition_count=0),
                TopicSpec(name="bad", configs={"retention.ms": "x"}),
                TopicSpec(name="x.y"),
                TopicSpec(name="x_y"),
            )
            kinds = [outcome.kind if isinstance(outcome, RiverlogError) else outcome.name for outcome in outcomes]
            assert kinds == [
                "new",
                ErrorKind.TOPIC_EXISTS,
                ErrorKind.INVALID_TOPIC,
                ErrorKind.INVALID_REQUEST,
                ErrorKind.INVALID_REQUEST,
                ErrorKind.INVALID_PARTITIONS,
                ErrorKind.INVALID_CONFIG,
                "x.y",
                ErrorKind.INVALID_TOPIC,
            ]
            assert sorted(one.topics.by_name) == ["new", "old", "x.y"]

    run(story)


def test_validate_only_makes_nothing() -> None:
    async def story() -> None:
        async with topic_world() as one:
            (topic,) = await one.topics.create(LIBRARY_CALLER, [TopicSpec(name="a")], validate_only=True)
            assert isinstance(topic, Topic)
            assert topic.topic_id == NO_TOPIC_ID
            assert not one.topics.by_name
            assert not one.engine.calls

    run(story)


def test_asks_at_once_for_one_name_make_one_topic_also_when_one_gives_up() -> None:
    async def story() -> None:
        async with topic_world(MemoryCatalog(late=2)) as one:
            asks = [asyncio.ensure_future(one.topics.ensure(LIBRARY_CALLER, "a")) for _ in range(20)]
            await settled(lambda: bool(one.topics._making))
            asks[0].cancel()
            topics = await asyncio.gather(*asks[1:])
            assert {topic.topic_id for topic in topics} == {one.topics.by_name[TopicName("a")].topic_id}
            assert one.engine.calls == ["open a 1"]
            assert len(one.catalog.commits) == 1

    run(story)


def test_ensure_refuses_bad_names_and_switched_off_creation() -> None:
    async def story() -> None:
        async with topic_world() as one:
            assert (await refusal(one.topics.ensure(LIBRARY_CALLER, "a b"))).kind is ErrorKind.INVALID_TOPIC
        async with topic_world(settings=BrokerSettings(auto_create_topics=False)) as one:
            error = await refusal(one.topics.ensure(LIBRARY_CALLER, "a"))
            assert error.kind is ErrorKind.UNKNOWN_TOPIC
            assert "auto.create.topics.enable" in error.message
            assert not one.catalog.commits

    run(story)


def test_a_topic_made_again_is_another_one_with_no_old_rows() -> None:
    async def story() -> None:
        async with topic_world() as one:
            old = await one.made("a", 4, retention_ms="1")
            await one.topics.delete(LIBRARY_CALLER, [TopicName("a")])
            new = await one.made("a")
            assert new.topic_id != old.topic_id
            assert new.overrides == {}
            assert old.topic_id not in one.topics.by_id
            assert one.engine.calls == ["open a 4", "delete a", "open a 1"]
            await settled(lambda: len(one.catalog.commits) == 4)
            assert not [key for key in await one.catalog.load(TOPICS) if old.topic_id.hex() in key]

    run(story)


def test_delete_by_name_and_id_and_what_is_refused() -> None:
    async def story() -> None:
        async with topic_world() as one:
            a, b = await one.made("a"), await one.made("b")
            outcomes = await one.topics.delete(
                LIBRARY_CALLER, [a.name, b.topic_id, TopicName("c"), TopicId(b"x" * 16), TopicName("d"), TopicName("d")]
            )
            kinds = [outcome.kind if isinstance(outcome, RiverlogError) else outcome.name for outcome in outcomes]
            assert kinds == [
                "a", "b", ErrorKind.UNKNOWN_TOPIC, ErrorKind.UNKNOWN_TOPIC_ID,
                ErrorKind.INVALID_REQUEST, ErrorKind.INVALID_REQUEST,
            ]  # fmt: skip
            assert not one.topics.by_id
            assert not one.engine.topics
        async with topic_world(settings=BrokerSettings(delete_topics=False)) as one:
            await one.made("a")
            (error,) = await one.topics.delete(LIBRARY_CALLER, [TopicName("a")])
            assert isinstance(error, RiverlogError)
            assert error.kind is ErrorKind.TOPIC_DELETION_DISABLED

    run(story)


def test_partitions_are_added_and_never_taken_away() -> None:
    async def story() -> None:
        async with topic_world() as one:
            before = await one.made("a", 2)
            after = await one.topics.add_partitions(LIBRARY_CALLER, "a", 5)
            assert (after.partition_count, one.topics.by_name[TopicName("a")]) == (5, after)
            assert after.version > before.version
            assert one.engine.calls == ["open a 2", "open a 5"]
            for count in (5, 1, 0):
                error = await refusal(one.topics.add_partitions(LIBRARY_CALLER, "a", count))
                assert error.kind is ErrorKind.INVALID_PARTITIONS

    run(story)


def test_configs_are_replaced_or_changed_one_by_one() -> None:
    async def story() -> None:
        async with topic_world() as one:
            topic = await one.made("a", retention_ms="1", cleanup_policy="delete")
            await one.topics.alter_configs(LIBRARY_CALLER, "a", {"segment.bytes": "2000000"})
            assert one.topics.by_id[topic.topic_id].overrides == {"segment.bytes": "2000000"}
            changed = await one.topics.incremental_alter(
                LIBRARY_CALLER,
                "a",
                [
                    ConfigChange("riverlog.durability", ConfigOperation.SET, "page-cache"),
                    ConfigChange("cleanup.policy", ConfigOperation.APPEND, "compact"),
                    ConfigChange("segment.bytes", ConfigOperation.DELETE, None),
                ],
            )
            assert changed.overrides == {"riverlog.durability": "page-cache", "cleanup.policy": "delete,compact"}
            assert log_config(changed.config).durability is Durability.PAGE_CACHE
            assert one.engine.topics[topic.topic_id].config == log_config(changed.config)
            assert one.engine.calls == ["open a 1", "configure a", "configure a"]

    run(story)


def test_a_change_that_changes_nothing_is_no_commit() -> None:
    async def story() -> None:
        async with topic_world() as one:
            topic = await one.made("a", retention_ms="1")
            assert await one.topics.alter_configs(LIBRARY_CALLER, "a", {"retention.ms": "1"}) == topic
            assert len(one.catalog.commits) == 1

    run(story)


def test_conflicts_and_lost_replies_are_decided_again_and_sent_again() -> None:
    async def story() -> None:
        async with topic_world() as one:
            one.catalog.conflicts = 2
            one.catalog.lost_replies = 1
            one.catalog.lost_requests = 1
            await one.made("a")
            assert len(one.catalog.commits) == 1
            one.catalog.refusals = 1
            (error,) = await create(one, TopicSpec(name="b"))
            assert isinstance(error, RiverlogError)
            assert error.kind is ErrorKind.STORAGE

    run(story)


def test_two_processes_see_each_others_topics_and_cannot_take_one_name_twice() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        async with topic_world(catalog, seed=1) as one, topic_world(catalog, seed=2) as two:
            outcomes = [*await asyncio.gather(create(one, TopicSpec(name="a")), create(two, TopicSpec(name="a")))]
            errors = [outcome for (outcome,) in outcomes if isinstance(outcome, RiverlogError)]
            assert [error.kind for error in errors] == [ErrorKind.TOPIC_EXISTS]
            await settled(lambda: one.topics.by_name == two.topics.by_name)
            assert one.engine.calls == two.engine.calls == ["open a 1"]

    run(story)


def test_a_topic_whose_logs_cannot_be_made_is_taken_back() -> None:
    async def story() -> None:
        async with topic_world() as one:
            one.engine.failures = 1
            (error,) = await create(one, TopicSpec(name="a"))
            assert isinstance(error, RiverlogError)
            assert error.kind is ErrorKind.STORAGE
            assert not one.topics.by_name
            assert await one.made("a")

    run(story)


def test_a_crash_between_catalog_and_engine_after_create_is_healed() -> None:
    async def story() -> None:
        async with topic_world() as one:
            topic = await one.made("a", 3)
        async with topic_world(one.catalog.reopened(), seed=2) as again:
            assert again.engine.calls == ["open a 3"]
            assert again.topics.by_id[topic.topic_id] == topic
            assert await again.made("b")

    run(story)


def test_a_crash_between_catalog_and_engine_after_delete_is_healed() -> None:
    async def story() -> None:
        async with topic_world() as one:
            topic = await one.made("a", 3)
        catalog = one.catalog.reopened()
        rows = await catalog.load(TOPICS)
        key = topic_key(topic.topic_id)
        plan = decide_delete(decode_topic(key, rows[key].value, rows[key].version))
        await catalog.commit(CommitId(b"id"), None, [Change(TOPICS, row.key, row.value) for row in plan.rows])

        async with topic_world(catalog.reopened()) as again:
            assert not again.topics.by_name
            await settled(lambda: not again.engine.topics and len(again.catalog.commits) == 1)
            assert await again.catalog.load(TOPICS) == {}
            assert again.engine.calls == ["open a 3", "delete a"]

        made_again = catalog.reopened()
        async with topic_world(made_again) as other:
            await other.made("a")
        async with topic_world(catalog.reopened()) as last:
            await last.made("a")

    run(story)


def test_a_deleted_topic_is_not_opened_where_its_name_is_taken_again() -> None:
    async def story() -> None:
        async with topic_world() as one:
            old = await one.made("a", 3)
            one.catalog.late = 0
            rows = await one.catalog.load(TOPICS)
            key = topic_key(old.topic_id)
            plan = decide_delete(decode_topic(key, rows[key].value, rows[key].version))
            await one.catalog.commit(CommitId(b"id"), None, [Change(TOPICS, row.key, row.value) for row in plan.rows])
            await settled(lambda: not one.topics.by_name)
            await one.made("a")
        async with topic_world(one.catalog.reopened()) as again:
            assert again.engine.calls == ["open a 1"]
            await settled(lambda: len(again.catalog.commits) == 1)

    run(story)


def test_watchers_are_told_of_every_change() -> None:
    async def story() -> None:
        async with topic_world() as one:
            told: list[tuple[int | None, int | None]] = []
            one.topics.watch(
                lambda before, after: told.append(
                    (before.partition_count if before else None, after.partition_count if after else None)
                )
            )
            await one.made("a")
            await one.topics.add_partitions(LIBRARY_CALLER, "a", 2)
            await one.topics.delete(LIBRARY_CALLER, [TopicName("a")])
            assert told == [(None, 1), (1, 2), (2, None)]

    run(story)


def test_a_catalog_that_fails_refuses_changes_and_those_who_wait() -> None:
    async def story() -> None:
        async with topic_world() as one:
            await one.made("a")
            one.catalog.fail("the disk is broken")
            error = await refusal(one.topics.add_partitions(LIBRARY_CALLER, "a", 2))
            assert error.kind is ErrorKind.STORAGE
            assert "the disk is broken" in error.message
            assert TopicName("a") in one.topics.by_name

    run(story)


def test_access_is_asked_for_every_resource() -> None:
    async def story() -> None:
        async with topic_world() as one:
            topic = await one.made("a")
        async with topic_world(one.catalog.reopened()) as denied:
            denied.access = DenyAll()
            outcomes = [
                *await create(denied, TopicSpec(name="b")),
                *await denied.topics.delete(LIBRARY_CALLER, [topic.name]),
                await refusal(denied.topics.ensure(LIBRARY_CALLER, "b")),
                await refusal(denied.topics.add_partitions(LIBRARY_CALLER, "a", 2)),
                await refusal(denied.topics.alter_configs(LIBRARY_CALLER, "a", {})),
                await refusal(denied.topics.incremental_alter(LIBRARY_CALLER, "a", [])),
            ]
            for outcome in outcomes:
                assert isinstance(outcome, RiverlogError)
                assert outcome.kind is ErrorKind.UNAUTHORIZED
            for describe in (
                lambda: denied.topics.describe_configs(LIBRARY_CALLER, "a", None),
                lambda: denied.topics.describe_broker_configs(LIBRARY_CALLER, None),
            ):
                with pytest.raises(RiverlogError, match="not allowed"):
                    describe()
            assert denied.topics.by_id[topic.topic_id] == topic
            assert not denied.catalog.commits

    run(story)
