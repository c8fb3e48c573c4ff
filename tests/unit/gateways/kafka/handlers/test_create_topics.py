"""CreateTopics: each topic for itself, in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from riverlog.base.ids import NO_TOPIC_ID, TopicName
from riverlog.broker.settings import BrokerSettings
from riverlog.gateways.kafka.handlers import create_topics
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll, Operation
from riverlog.testing.topic_world import Denies, TopicWorld, topic_world

assert create_topics.create_topics


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


def topic(
    name: str,
    partitions: int = 1,
    replicas: int = 1,
    configs: Mapping[str, str | None] | None = None,
    assignments: Mapping[int, list[int]] | None = None,
) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()],
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
            for index, ids in (assignments or {}).items()
        ],
    )


async def create(
    world: TopicWorld, *topics: CreatableTopic, version: int = 7, validate_only: bool = False
) -> list[CreatableTopicResult]:
    request = CreateTopicsRequest(topics=topics, validate_only=validate_only)
    return list((await world.ask(ApiKey.CREATE_TOPICS, version, request)).topics)


@pytest.mark.parametrize("version", range(2, 8))
def test_created_and_told(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            (result,) = await create(world, topic("a", 4, 3, {"retention.ms": "-1"}), version=version)
            made = world.topics.by_name[TopicName("a")]
            assert (result.name, result.error_code, result.error_message) == ("a", 0, None)
            assert made.partition_count == 4
            assert result.topic_id == (made.topic_id if version >= 7 else NO_TOPIC_ID)
            if version >= 5:
                assert (result.num_partitions, result.replication_factor) == (4, 1)
                assert result.configs is not None
                told = {config.name: (config.value, config.config_source) for config in result.configs}
                assert told["retention.ms"] == ("-1", 1)
                assert told["cleanup.policy"] == ("delete", 5)

    run(story)


def test_each_refusal_has_its_code_and_says_what_to_do() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("old")
            cases = [
                (topic("old"), ErrorCode.TOPIC_ALREADY_EXISTS),
                (topic("a b"), ErrorCode.INVALID_TOPIC_EXCEPTION),
                (topic("p0", 0), ErrorCode.INVALID_PARTITIONS),
                (topic("p-2", -2), ErrorCode.INVALID_PARTITIONS),
                (topic("p-many", 100_001), ErrorCode.INVALID_PARTITIONS),
                (topic("r0", 1, 0), ErrorCode.INVALID_REPLICATION_FACTOR),
                (topic("r-2", 1, -2), ErrorCode.INVALID_REPLICATION_FACTOR),
                (topic("c1", configs={"retention.ms": "soon"}), ErrorCode.INVALID_CONFIG),
                (topic("c2", configs={"retentoin.ms": "1"}), ErrorCode.INVALID_CONFIG),
                (topic("c3", configs={"retention.ms": None}), ErrorCode.INVALID_CONFIG),
                (topic("m1", 1, -1, assignments={0: [1]}), ErrorCode.INVALID_REQUEST),
                (topic("m2", -1, -1, assignments={1: [1]}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
                (topic("m3", -1, -1, assignments={0: []}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
                (topic("m4", -1, -1, assignments={0: [1, 1]}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
                (topic("m5", -1, -1, assignments={0: [1], 1: [1, 2]}), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
            ]
            results = await create(world, *(asked for asked, _ in cases))
            assert [(result.name, result.error_code) for result in results] == [
                (asked.name, code) for asked, code in cases
            ]
            for result in results:
                assert result.error_message
                assert result.configs is not None
            assert list(world.topics.by_name) == ["old"]

    run(story)


def test_any_replication_factor_and_wellformed_assignment_is_taken() -> None:
    async def story() -> None:
        async with topic_world(settings=BrokerSettings(num_partitions=6)) as world:
            results = await create(
                world,
                topic("three", 1, 3, {"min.insync.replicas": "2"}),
                topic("default", -1, -1),
                topic("manual", -1, -1, assignments={1: [5, 6], 0: [6, 5]}),
            )
            assert [result.error_code for result in results] == [0, 0, 0]
            assert [result.num_partitions for result in results] == [1, 6, 2]
            assert [result.replication_factor for result in results] == [1, 1, 1]
            assert world.topics.by_name[TopicName("manual")].replication_factor == 2
        async with topic_world(settings=BrokerSettings(strict_replication=True)) as world:
            results = await create(world, topic("three", 1, 3), topic("manual", -1, -1, assignments={0: [1, 2]}))
            assert {result.error_code for result in results} == {ErrorCode.INVALID_REPLICATION_FACTOR}

    run(story)


def test_a_name_that_comes_twice_is_answered_once_and_not_created() -> None:
    async def story() -> None:
        async with topic_world() as world:
            (result,) = await create(world, topic("a"), topic("a", 2))
            assert result.error_code == ErrorCode.INVALID_REQUEST
            assert not world.topics.by_name

    run(story)


def test_validate_only_tells_and_makes_nothing() -> None:
    async def story() -> None:
        async with topic_world() as world:
            good, bad = await create(world, topic("a", 3), topic("b", 0), validate_only=True)
            assert (good.error_code, good.num_partitions, good.topic_id) == (0, 3, NO_TOPIC_ID)
            assert bad.error_code == ErrorCode.INVALID_PARTITIONS
            assert not world.topics.by_name

    run(story)


def test_denied() -> None:
    async def story() -> None:
        async with topic_world() as world:
            world.access = DenyAll()
            (result,) = await create(world, topic("a"))
            assert result.error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert not world.topics.by_name
            world.access = Denies(Operation.CREATE, names=("kafka-cluster",))
            (result,) = await create(world, topic("a"))
            assert result.error_code == 0
            world.access = Denies(Operation.DESCRIBE_CONFIGS)
            (result,) = await create(world, topic("b"))
            assert (result.error_code, result.num_partitions) == (0, -1)
            assert result.topic_config_error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert list(result.configs or ()) == []

    run(story)


def test_a_request_for_too_many_partitions_is_refused_whole() -> None:
    async def story() -> None:
        async with topic_world() as world:
            results = await create(world, topic("a", 9_999), topic("b", 2), topic("b", 2))
            assert [(result.name, result.error_code) for result in results] == [
                ("a", ErrorCode.POLICY_VIOLATION),
                ("b", ErrorCode.POLICY_VIOLATION),
            ]
            assert "10000" in str(results[0].error_message)
            assert not world.topics.by_name

    run(story)
