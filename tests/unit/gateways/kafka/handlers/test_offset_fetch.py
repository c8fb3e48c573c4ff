"""OffsetFetch in every version: by name, by id, all, several groups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from riverlog.state.access import DenyAll, Operation
from riverlog.testing.group_world import GroupWorld, group_world
from riverlog.testing.topic_world import Denies


def run(story: Callable[[GroupWorld], Awaitable[None]]) -> None:
    async def play() -> None:
        async with group_world() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


async def fetch(world: GroupWorld, version: int, group_id: str = "g", everything: bool = False) -> tuple[int, object]:
    """Error of the group, and (partition, offset, error) of partitions 0 and 1."""
    if version >= 8:
        by_id = {"topic_id": world.topic_id} if version >= 10 else {"name": "t"}
        asked = OffsetFetchRequestTopics(partition_indexes=[0, 1], **by_id)  # type: ignore[arg-type]
        group = OffsetFetchRequestGroup(group_id=group_id, topics=None if everything else [asked])
        (answer,) = (await world.ask(ApiKey.OFFSET_FETCH, version, OffsetFetchRequest(groups=[group]))).groups
        assert answer.group_id == group_id
    else:
        topics = None if everything else [OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1])]
        request = OffsetFetchRequest(group_id=group_id, topics=topics)
        answer = await world.ask(ApiKey.OFFSET_FETCH, version, request)
    for topic in answer.topics:
        assert (topic.topic_id == world.topic_id) if version >= 10 else (topic.name == "t")
    found = [(p.partition_index, p.committed_offset, p.error_code) for t in answer.topics for p in t.partitions]
    return answer.error_code, found


@pytest.mark.parametrize("version", range(1, 11))
def test_fetches(version: int) -> None:
    async def story(world: GroupWorld) -> None:
        assert await fetch(world, version) == (0, [(0, -1, 0), (1, -1, 0)])
        await world.commit(5)
        assert await fetch(world, version) == (0, [(0, 5, 0), (1, -1, 0)])
        assert await fetch(world, version, "unknown") == (0, [(0, -1, 0), (1, -1, 0)])
        if version >= 2:
            assert await fetch(world, version, everything=True) == (0, [(0, 5, 0)])
        world.topics.access = Denies(Operation.DESCRIBE, names=("t",))
        refusal = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        assert await fetch(world, version) == (0, [(0, -1, refusal), (1, -1, refusal)])
        if version >= 2:
            assert await fetch(world, version, everything=True) == (0, [])
        world.topics.access = DenyAll()
        refusal = ErrorCode.GROUP_AUTHORIZATION_FAILED
        expected = (refusal, []) if version >= 2 else (0, [(0, -1, refusal), (1, -1, refusal)])
        assert await fetch(world, version) == expected

    run(story)


def test_several_groups_each_with_its_answer() -> None:
    async def story(world: GroupWorld) -> None:
        await world.commit(5, "g")
        await world.commit(6, "h")
        groups = [OffsetFetchRequestGroup(group_id=name, topics=None) for name in ("h", "g", "nobody")]
        answer = await world.ask(ApiKey.OFFSET_FETCH, 9, OffsetFetchRequest(groups=groups, require_stable=True))
        found = [(g.group_id, [p.committed_offset for t in g.topics for p in t.partitions]) for g in answer.groups]
        assert found == [("h", [6]), ("g", [5]), ("nobody", [])]

    run(story)


def test_an_unknown_id_is_an_error() -> None:
    async def story(world: GroupWorld) -> None:
        topic = OffsetFetchRequestTopics(topic_id=b"?" * 16, partition_indexes=[0])
        group = OffsetFetchRequestGroup(group_id="g", topics=[topic])
        answer = await world.ask(ApiKey.OFFSET_FETCH, 10, OffsetFetchRequest(groups=[group]))
        assert answer.groups[0].topics[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID

    run(story)
