"""OffsetCommit in every version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from riverlog.state.access import DenyAll, Operation
from riverlog.testing.group_world import GroupWorld, group_world
from riverlog.testing.topic_world import Denies


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


async def commit(world: GroupWorld, version: int, name: str, index: int, group_id: str = "g") -> int:
    """Offset 5; gives the error code."""
    partition = OffsetCommitRequestPartition(
        partition_index=index,
        committed_offset=5,
        committed_leader_epoch=3 if version >= 6 else -1,
        committed_metadata="m",
    )
    by_id = version >= 10
    topic_id = world.topic_id if name == "t" else b"?" * 16
    topic = OffsetCommitRequestTopic(
        name="" if by_id else name, partitions=[partition], **({"topic_id": topic_id} if by_id else {})
    )
    request = OffsetCommitRequest(
        group_id=group_id, topics=[topic], retention_time_ms=1_000 if 2 <= version <= 4 else -1
    )
    (answered,) = (await world.ask(ApiKey.OFFSET_COMMIT, version, request)).topics
    assert answered.name == ("" if by_id else name)
    assert not by_id or answered.topic_id == topic_id
    assert answered.partitions[0].partition_index == index
    code: int = answered.partitions[0].error_code
    return code


@pytest.mark.parametrize("version", range(2, 11))
def test_commits(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        assert await commit(world, version, "t", 0) == 0
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= 10 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert await commit(world, version, "nothing", 0) == unknown
        assert await commit(world, version, "t", 4) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        ((_, committed),) = world.groups._machines.runners["g"].machine.offsets.items()
        assert (committed.offset, committed.metadata) == (5, "m")
        assert committed.leader_epoch == (3 if version >= 6 else -1)
        assert committed.expire_ms == (committed.commit_ms + 1_000 if version <= 4 else -1)
        await world.stable()
        assert await commit(world, version, "t", 0) == ErrorCode.UNKNOWN_MEMBER_ID
        world.topics.access = Denies(Operation.READ, names=("t",))
        assert await commit(world, version, "t", 0, "other") == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        world.topics.access = DenyAll()
        assert await commit(world, version, "t", 0) == ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(story)


@pytest.mark.parametrize("version", [7, 8, 9, 10])
def test_an_instance_is_checked(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        member = await world.stable(group_instance_id="i")
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
        by_id = {"topic_id": world.topic_id} if version >= 10 else {}
        for member_id, code in (("x", ErrorCode.FENCED_INSTANCE_ID), (member.member_id, 0)):
            request = OffsetCommitRequest(
                group_id="g",
                generation_id_or_member_epoch=member.generation,
                member_id=member_id,
                group_instance_id="i",
                topics=[OffsetCommitRequestTopic(name="" if by_id else "t", partitions=[partition], **by_id)],
            )
            answer = await world.ask(ApiKey.OFFSET_COMMIT, version, request)
            assert answer.topics[0].partitions[0].error_code == code

    run(story)


def test_a_catalog_that_refuses_commits_nothing() -> None:
    async def story(world: GroupWorld) -> None:
        world.topics.catalog.refusals = 1
        assert await commit(world, 8, "t", 0) == ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert list(world.groups.committed()) == []

    run(story)


@pytest.mark.parametrize("version", range(2, 11))
def test_a_member_of_a_group_that_is_not_there(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
        by_id = {"topic_id": world.topic_id} if version >= 10 else {}
        request = OffsetCommitRequest(
            group_id="nobody's",
            generation_id_or_member_epoch=3,
            member_id="nobody",
            topics=[OffsetCommitRequestTopic(name="" if by_id else "t", partitions=[partition], **by_id)],
        )
        answer = await world.ask(ApiKey.OFFSET_COMMIT, version, request)
        expected = ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION
        assert answer.topics[0].partitions[0].error_code == expected

    run(story)
