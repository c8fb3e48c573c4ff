"""ElectLeaders: never needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from riverlog.gateways.kafka.handlers import elect_leaders
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.elect_leaders import ElectLeadersRequest, TopicPartitions
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert elect_leaders.elect_leaders


async def elect(
    world: TopicWorld, version: int, partitions: Sequence[tuple[str, list[int]]] | None, kind: int = 0
) -> tuple[int, list[tuple[str, int, int]]]:
    asked = None
    if partitions is not None:
        asked = [TopicPartitions(topic=name, partitions=indexes) for name, indexes in partitions]
    request = ElectLeadersRequest(election_type=kind, topic_partitions=asked)
    answer = await world.ask(ApiKey.ELECT_LEADERS, version, request)
    results = [
        (topic.topic, one.partition_id, one.error_code)
        for topic in answer.replica_election_results
        for one in topic.partition_result
    ]
    return answer.error_code, results


@pytest.mark.parametrize("version", range(0, 3))
def test_the_only_replica_leads(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a", 2)
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert await elect(world, version, [("a", [0, 1, 2]), ("b", [0])]) == (
                0,
                [
                    ("a", 0, ErrorCode.ELECTION_NOT_NEEDED),
                    ("a", 1, ErrorCode.ELECTION_NOT_NEEDED),
                    ("a", 2, unknown),
                    ("b", 0, unknown),
                ],
            )
            assert await elect(world, version, None) == (0, [])

    asyncio.run(story())


def test_an_unknown_kind_of_election() -> None:
    async def story() -> None:
        async with topic_world() as world:
            code = ErrorCode.INVALID_REQUEST
            assert await elect(world, 2, [("a", [0])], kind=7) == (code, [("a", 0, code)])

    asyncio.run(story())


@pytest.mark.parametrize("version", range(0, 3))
def test_denied(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            world.access = DenyAll()
            code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            assert await elect(world, version, [("a", [0])]) == (code if version else 0, [("a", 0, code)])

    asyncio.run(story())
