"""DescribeCluster: this broker, by the address that the client came in by."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from riverlog.gateways.kafka.authorized import NOT_ASKED
from riverlog.gateways.kafka.handlers import describe_cluster
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_cluster import DescribeClusterRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import Access, AllowAll, DenyAll
from riverlog.testing.topic_world import topic_world

assert describe_cluster.describe_cluster


def ask(version: int, access: Access | None = None, **fields: Any) -> Any:
    async def story() -> Any:
        async with topic_world() as world:
            world.access = access or AllowAll()
            return await world.ask(ApiKey.DESCRIBE_CLUSTER, version, DescribeClusterRequest(**fields))

    return asyncio.run(story())


@pytest.mark.parametrize("version", range(0, 3))
def test_the_brokers(version: int) -> None:
    answer = ask(version)
    (broker,) = answer.brokers
    assert (broker.broker_id, broker.host, broker.port) == (7, "127.0.0.1", 9092)
    assert (answer.error_code, answer.cluster_id, answer.controller_id) == (0, "a-cluster", 7)
    assert answer.cluster_authorized_operations == NOT_ASKED


def test_there_are_no_controllers_to_ask_for() -> None:
    assert ask(1, endpoint_type=2).error_code == ErrorCode.MISMATCHED_ENDPOINT_TYPE
    assert ask(1, endpoint_type=3).error_code == ErrorCode.UNSUPPORTED_ENDPOINT_TYPE


def test_operations_are_told_to_who_may_see_the_cluster() -> None:
    assert ask(0, include_cluster_authorized_operations=True).cluster_authorized_operations == 0b1_1111_1010_0000
    denied = ask(0, DenyAll(), include_cluster_authorized_operations=True)
    assert (denied.error_code, denied.cluster_authorized_operations) == (0, 0)
