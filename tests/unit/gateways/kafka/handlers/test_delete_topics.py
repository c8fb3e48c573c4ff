"""DeleteTopics: by name, by id, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from riverlog.broker.settings import BrokerSettings
from riverlog.gateways.kafka.handlers import delete_topics
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicState
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert delete_topics.delete_topics


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


async def delete(
    world: TopicWorld, *names: str, ids: Sequence[bytes] = (), version: int = 6
) -> list[DeletableTopicResult]:
    if version >= 6:
        states = [DeleteTopicState(name=name) for name in names] + [DeleteTopicState(topic_id=id) for id in ids]
        request = DeleteTopicsRequest(topics=states)
    else:
        request = DeleteTopicsRequest(topic_names=names)
    return list((await world.ask(ApiKey.DELETE_TOPICS, version, request)).responses)


@pytest.mark.parametrize("version", range(1, 7))
def test_deleted_by_name(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("a")
            deleted, unknown = await delete(world, "a", "b", version=version)
            assert (deleted.name, deleted.error_code) == ("a", 0)
            assert version < 6 or deleted.topic_id == made.topic_id
            assert (unknown.name, unknown.error_code) == ("b", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            assert bool(unknown.error_message) == (version >= 5)
            assert not world.topics.by_name

    run(story)


def test_deleted_by_id() -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("a")
            deleted, unknown = await delete(world, ids=[made.topic_id, b"x" * 16])
            assert (deleted.name, deleted.topic_id, deleted.error_code) == ("a", made.topic_id, 0)
            assert (unknown.name, unknown.error_code) == (None, ErrorCode.UNKNOWN_TOPIC_ID)

    run(story)


def test_name_and_id_together_and_a_name_twice_are_refused() -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("a")
            request = DeleteTopicsRequest(topics=[DeleteTopicState(name="a", topic_id=made.topic_id)])
            (result,) = (await world.ask(ApiKey.DELETE_TOPICS, 6, request)).responses
            assert result.error_code == ErrorCode.INVALID_REQUEST
            (result,) = await delete(world, "a", "a")
            assert result.error_code == ErrorCode.INVALID_REQUEST
            assert list(world.topics.by_name) == ["a"]

    run(story)


def test_deletion_can_be_switched_off() -> None:
    async def story() -> None:
        async with topic_world(settings=BrokerSettings(delete_topics=False)) as world:
            await world.made("a")
            (result,) = await delete(world, "a", version=2)
            assert result.error_code == ErrorCode.INVALID_REQUEST
            (result,) = await delete(world, "a")
            assert result.error_code == ErrorCode.TOPIC_DELETION_DISABLED
            assert list(world.topics.by_name) == ["a"]

    run(story)


def test_denied_and_no_name_told_to_who_knows_only_the_id() -> None:
    async def story() -> None:
        async with topic_world() as world:
            made = await world.made("a")
            world.access = DenyAll()
            results = await delete(world, "a", "unknown", ids=[made.topic_id])
            assert [result.name for result in results] == ["a", "unknown", None]
            assert {result.error_code for result in results} == {ErrorCode.TOPIC_AUTHORIZATION_FAILED}
            assert results[2].error_message is not None
            assert "'a'" not in results[2].error_message
            assert list(world.topics.by_name) == ["a"]

    run(story)
