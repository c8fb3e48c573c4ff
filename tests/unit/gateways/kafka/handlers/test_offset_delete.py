"""OffsetDelete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from riverlog.state.access import DenyAll, Operation
from riverlog.testing.group_world import GroupWorld, group_world
from riverlog.testing.topic_world import Denies


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


def test_deletes() -> None:
    async def story(world: GroupWorld) -> None:
        async def delete(group_id: str = "g", name: str = "t") -> tuple[int, list[int]]:
            topic = OffsetDeleteRequestTopic(
                name=name, partitions=[OffsetDeleteRequestPartition(partition_index=0)]
            )
            request = OffsetDeleteRequest(group_id=group_id, topics=[topic])
            answer = await world.ask(ApiKey.OFFSET_DELETE, 0, request)
            return answer.error_code, [p.error_code for t in answer.topics for p in t.partitions]

        assert await delete() == (ErrorCode.GROUP_ID_NOT_FOUND, [])
        member = await world.stable()
        assert await world.commit(5, member=member) == 0
        await world.commit(6, "h")
        assert await delete() == (0, [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC])
        assert await delete(name="nothing") == (0, [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
        assert await delete("h") == (0, [0])
        assert [group for group, *_ in world.groups.committed()] == ["g"]
        world.topics.access = Denies(Operation.READ)
        assert await delete() == (0, [ErrorCode.TOPIC_AUTHORIZATION_FAILED])
        world.topics.access = DenyAll()
        assert await delete() == (ErrorCode.GROUP_AUTHORIZATION_FAILED, [])

    run(story)
