"""Metadata: what is told of topics, in every version, and what is created by asking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

import pytest

from riverlog.base.ids import NO_TOPIC_ID, PartitionId, TopicName
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.memory import MemoryCatalog
from riverlog.gateways.kafka.authorized import NOT_ASKED
from riverlog.gateways.kafka.handlers.metadata import metadata
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from riverlog.gateways.kafka.wire import encode_response
from riverlog.state.access import LIBRARY_CALLER, DenyAll, Operation
from riverlog.testing.topic_world import Denies, TopicWorld, topic_world

VERSIONS = range(0, 14)


async def ask(world: TopicWorld, *names: str, version: int = 13, create: bool = False) -> MetadataResponse:
    topics = [MetadataRequestTopic(name=name) for name in names]
    request = MetadataRequest(topics=topics, allow_auto_topic_creation=create or version < 4)
    answer: MetadataResponse = await world.ask(ApiKey.METADATA, version, request)
    return answer


async def ask_all(world: TopicWorld, version: int = 13) -> MetadataResponse:
    request = MetadataRequest(topics=[] if version == 0 else None)
    answer: MetadataResponse = await world.ask(ApiKey.METADATA, version, request)
    return answer


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_with_its_partitions_in_every_version(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("flights", 3)
            world.engine.leader_epoch = 4
            for answer in (await ask(world, "flights", version=version), await ask_all(world, version)):
                (broker,) = answer.brokers
                assert (broker.node_id, broker.host, broker.port, broker.rack) == (7, "127.0.0.1", 9092, None)
                assert answer.controller_id == (7 if version >= 1 else -1)
                assert answer.cluster_id == ("a-cluster" if version >= 2 else None)
                (topic,) = answer.topics
                assert (topic.error_code, topic.name, topic.is_internal) == (0, "flights", False)
                assert topic.topic_id == (made.topic_id if version >= 10 else NO_TOPIC_ID)
                assert topic.topic_authorized_operations == NOT_ASKED
                assert [partition.partition_index for partition in topic.partitions] == [0, 1, 2]
                for partition in topic.partitions:
                    assert (partition.error_code, partition.leader_id) == (0, 7)
                    assert partition.leader_epoch == (4 if version >= 7 else -1)
                    assert list(partition.replica_nodes) == list(partition.isr_nodes) == [7]
                    assert list(partition.offline_replicas) == []

    run(story)


def test_no_names_are_no_topics_from_version_1_on() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            assert len((await ask(world, version=0)).topics) == 1
            assert len((await ask(world, version=1)).topics) == 0

    run(story)


def test_asking_creates_where_it_is_wanted_and_allowed() -> None:
    async def story() -> None:
        async with topic_world(MemoryCatalog(late=2), BrokerSettings(num_partitions=2)) as world:
            (topic,) = (await ask(world, "a")).topics
            assert (topic.error_code, topic.name) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "a")
            answers = await asyncio.gather(*(ask(world, "a", "b", "a", create=True) for _ in range(5)))
            for answer in answers:
                assert [topic.name for topic in answer.topics] == ["a", "b"]
                assert [len(topic.partitions) for topic in answer.topics] == [2, 2]
            assert len({answer.topics[0].topic_id for answer in answers}) == 1
            (topic,) = (await ask(world, "old", version=3)).topics
            assert topic.error_code == 0
        async with topic_world(settings=BrokerSettings(auto_create_topics=False)) as world:
            (topic,) = (await ask(world, "a", create=True)).topics
            assert topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(story)


@pytest.mark.parametrize("create", [False, True])
def test_an_invalid_name_is_refused_and_never_created(create: bool) -> None:
    async def story() -> None:
        async with topic_world() as world:
            answer = await ask(world, "a b", "", "..", "x" * 250, create=create)
            assert {topic.error_code for topic in answer.topics} == {ErrorCode.INVALID_TOPIC_EXCEPTION}
            assert not world.topics.by_name

    run(story)


def test_a_name_that_collides_is_not_created() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a.b")
            (topic,) = (await ask(world, "a_b", create=True)).topics
            assert topic.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION

    run(story)


@pytest.mark.parametrize("version", range(10, 14))
def test_a_topic_by_its_id(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("a")
            name = None if version >= 12 else ""
            asked = [MetadataRequestTopic(topic_id=id, name=name) for id in (made.topic_id, b"x" * 16)]
            answer = await world.ask(ApiKey.METADATA, version, MetadataRequest(topics=asked))
            known, unknown = answer.topics
            assert (known.error_code, known.name, known.topic_id) == (0, "a", made.topic_id)
            assert (unknown.error_code, unknown.name) == (ErrorCode.UNKNOWN_TOPIC_ID, name)
            assert unknown.topic_id == b"x" * 16
            assert list(world.topics.by_name) == ["a"]

    run(story)


def test_authorized_operations_are_told_where_they_are_asked_for() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            request = MetadataRequest(
                topics=None,
                include_topic_authorized_operations=True,
                include_cluster_authorized_operations=True,
            )
            answer = await world.ask(ApiKey.METADATA, 8, request)
            assert answer.topics[0].topic_authorized_operations == 0b1101_1111_1000
            assert answer.cluster_authorized_operations == 0b1_1111_1010_0000
            world.access = Denies(Operation.WRITE, Operation.CREATE)
            answer = await world.ask(ApiKey.METADATA, 8, request)
            assert answer.topics[0].topic_authorized_operations == 0b1101_1100_1000
            assert answer.cluster_authorized_operations == 0b1_1111_1000_0000

    run(story)


def test_denied_topics_are_left_out_or_refused() -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("secret")
            await world.made("open")
            world.access = Denies(Operation.DESCRIBE, names=("secret", "unknown"))
            assert [topic.name for topic in (await ask_all(world)).topics] == ["open"]
            answer = await ask(world, "secret", "unknown", "open", create=True)
            denied = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert [topic.error_code for topic in answer.topics] == [denied, denied, 0]
            by_id = MetadataRequest(topics=[MetadataRequestTopic(topic_id=made.topic_id, name=None)])
            (topic,) = (await world.ask(ApiKey.METADATA, 12, by_id)).topics
            assert (topic.error_code, topic.name, list(topic.partitions)) == (denied, None, [])
            world.access = Denies(Operation.CREATE)
            (topic,) = (await ask(world, "new", create=True)).topics
            assert topic.error_code == denied
            world.access = DenyAll()
            assert list((await ask_all(world)).topics) == []
            answer = await world.ask(
                ApiKey.METADATA, 8, MetadataRequest(topics=[], include_cluster_authorized_operations=True)
            )
            assert answer.cluster_authorized_operations == 0
            assert sorted(world.topics.by_name) == ["open", "secret"]

    run(story)


def test_what_is_kept_follows_the_topic() -> None:
    async def story() -> None:
        async with topic_world() as world:
            first = await world.made("a")
            assert len((await ask(world, "a")).topics[0].partitions) == 1
            await world.topics.add_partitions(LIBRARY_CALLER, "a", 3)
            assert len((await ask(world, "a")).topics[0].partitions) == 3
            world.engine.leader_epoch = 9
            assert (await ask(world, "a")).topics[0].partitions[2].leader_epoch == 9
            await world.topics.delete(LIBRARY_CALLER, [TopicName("a")])
            assert (await ask(world, "a")).topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            await world.made("a")
            (topic,) = (await ask(world, "a")).topics
            assert topic.topic_id != first.topic_id
            assert len(topic.partitions) == 1

    run(story)


def test_a_partition_that_cannot_be_served_has_no_leader() -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("a", 2)
            world.engine.offline.add(PartitionId(made.topic_id, 1))
            (topic,) = (await ask(world, "a")).topics
            served, offline = topic.partitions
            assert (served.error_code, served.leader_id) == (0, 7)
            assert (offline.error_code, offline.leader_id) == (ErrorCode.LEADER_NOT_AVAILABLE, -1)
            assert (list(offline.isr_nodes), list(offline.offline_replicas)) == ([], [7])

    run(story)


def test_internal_names_are_marked() -> None:
    async def story() -> None:
        async with topic_world() as world:
            (topic,) = (await ask(world, "__consumer_offsets")).topics
            assert topic.is_internal

    run(story)


def test_a_hundred_topics_of_ten_partitions_take_milliseconds() -> None:
    """The target is 5 ms on one core; the bound here leaves room for a busy machine."""

    async def story() -> None:
        async with topic_world() as world:
            await asyncio.gather(*(world.made(f"topic-{number}", 10) for number in range(100)))
            call = world.call(12)
            took = []
            for _ in range(5):
                start = perf_counter()
                answer = metadata(call, MetadataRequest(topics=None))
                assert isinstance(answer, MetadataResponse)
                encode_response(ApiKey.METADATA, 12, 1, answer)
                took.append(perf_counter() - start)
            assert min(took) < 0.02, took

    run(story)
