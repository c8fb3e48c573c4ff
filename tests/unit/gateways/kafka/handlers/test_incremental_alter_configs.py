"""IncrementalAlterConfigs: set, delete, append, subtract; the rest stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.base.ids import TopicName
from riverlog.gateways.kafka.handlers import incremental_alter_configs
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
)
from riverlog.state.access import DenyAll
from riverlog.state.groups.commands import GroupSettings
from riverlog.testing.topic_world import TopicWorld, topic_world

assert incremental_alter_configs.incremental_alter_configs

TOPIC, BROKER, GROUP = 2, 4, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


def resource(kind: int, name: str, *changes: tuple[str, int, str | None]) -> AlterConfigsResource:
    configs = [AlterableConfig(name=key, config_operation=operation, value=value) for key, operation, value in changes]
    return AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)


async def alter(
    world: TopicWorld, *resources: AlterConfigsResource, version: int = 1, validate_only: bool = False
) -> list[AlterConfigsResourceResponse]:
    request = IncrementalAlterConfigsRequest(resources=resources, validate_only=validate_only)
    return list((await world.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, version, request)).responses)


@pytest.mark.parametrize("version", range(0, 2))
def test_changed_one_by_one(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a", retention_ms="5", segment_ms="9")
            changes = resource(
                TOPIC,
                "a",
                ("retention.ms", DELETE, None),
                ("cleanup.policy", APPEND, "compact"),
                ("min.insync.replicas", SET, "2"),
                ("flush.ms", DELETE, None),
            )
            (result,) = await alter(world, changes, version=version)
            assert (result.error_code, result.resource_name) == (0, "a")
            assert world.topics.by_name[TopicName("a")].overrides == {
                "segment.ms": "9",
                "cleanup.policy": "delete,compact",
                "min.insync.replicas": "2",
            }
            (result,) = await alter(world, resource(TOPIC, "a", ("cleanup.policy", SUBTRACT, "delete")))
            assert world.topics.by_name[TopicName("a")].config.cleanup_compact
            assert not world.topics.by_name[TopicName("a")].config.cleanup_delete

    run(story)


def test_what_is_refused() -> None:
    async def story() -> None:
        async with topic_world() as world:
            for name in "abcdefg":
                await world.made(name)
            results = await alter(
                world,
                resource(TOPIC, "a", ("retention.ms", APPEND, "5")),
                resource(TOPIC, "b", ("retention.ms", 9, "5")),
                resource(TOPIC, "c", ("retention.ms", SET, "5"), ("retention.ms", DELETE, None)),
                resource(TOPIC, "d", ("retention.ms", SET, None)),
                resource(TOPIC, "e", ("none", DELETE, None)),
                resource(TOPIC, "f", ("cleanup.policy", APPEND, "shred")),
                resource(TOPIC, "unknown", ("retention.ms", SET, "5")),
                resource(BROKER, "7", ("log.retention.ms", SET, "5")),
            )
            assert [result.error_code for result in results] == [
                ErrorCode.INVALID_CONFIG,
                ErrorCode.INVALID_REQUEST,
                ErrorCode.INVALID_REQUEST,
                ErrorCode.INVALID_CONFIG,
                ErrorCode.INVALID_CONFIG,
                ErrorCode.INVALID_CONFIG,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode.INVALID_REQUEST,
            ]
            assert all(result.error_message for result in results)
            same = resource(TOPIC, "g", ("retention.ms", SET, "5"))
            (result,) = await alter(world, same, same)
            assert result.error_code == ErrorCode.INVALID_REQUEST
            (result,) = await alter(world, same, validate_only=True)
            assert result.error_code == 0
            assert all(not topic.overrides for topic in world.topics.by_name.values())

    run(story)


def test_the_configs_of_a_group_change_one_by_one() -> None:
    async def story() -> None:
        async with topic_world() as world:
            session, beat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"

            async def code(*changes: tuple[str, int, str | None]) -> int:
                (result,) = await alter(world, resource(GROUP, "g", *changes))
                return result.error_code

            assert await code((session, SET, "46000"), (beat, SET, "5001")) == 0
            assert await code((session, DELETE, None)) == 0
            applied = world.group_configs.applied("g", GroupSettings())
            assert (applied.consumer_session_timeout_ms, applied.consumer_heartbeat_interval_ms) == (45_000, 5_001)
            for bad in ((session, SET, "44999"), (session, SET, "60001"), (session, SET, "1 s"), ("sesion", SET, "1"),
                        (session, APPEND, "1"), ("share.session.timeout.ms", SET, "46000"), ("x", DELETE, None)):  # fmt: skip
                assert await code(bad) == ErrorCode.INVALID_CONFIG, bad
            assert await code((session, SET, None)) == ErrorCode.INVALID_REQUEST
            assert await code((session, SET, "46000"), (session, SET, "47000")) == ErrorCode.INVALID_REQUEST
            assert world.group_configs.applied("g", GroupSettings()) == applied

    run(story)


def test_denied() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            world.access = DenyAll()
            results = await alter(world, resource(TOPIC, "a"), resource(BROKER, "7"), resource(GROUP, "g"))
            assert [result.error_code for result in results] == [
                ErrorCode.TOPIC_AUTHORIZATION_FAILED,
                ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
                ErrorCode.GROUP_AUTHORIZATION_FAILED,
            ]

    run(story)
