"""ListPartitionReassignments: none, ever."""

from __future__ import annotations

import asyncio

from riverlog.gateways.kafka.handlers import list_partition_reassignments
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import topic_world

assert list_partition_reassignments.list_partition_reassignments


def test_nothing_is_being_moved() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            one = ListPartitionReassignmentsTopics(name="a", partition_indexes=[0])
            for topics in (None, [one]):
                request = ListPartitionReassignmentsRequest(topics=topics)
                answer = await world.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, request)
                assert (answer.error_code, list(answer.topics)) == (0, [])
            world.access = DenyAll()
            answer = await world.ask(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, ListPartitionReassignmentsRequest())
            assert answer.error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED

    asyncio.run(story())
