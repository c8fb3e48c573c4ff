"""AlterConfigs: these configurations and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from riverlog.base.ids import TopicName
from riverlog.gateways.kafka.handlers import alter_configs
from riverlog.gateways.kafka.schema.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from riverlog.state.groups.commands import GroupSettings
from riverlog.testing.topic_world import TopicWorld, topic_world

assert alter_configs.alter_configs

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


def resource(kind: int, name: str, configs: Mapping[str, str | None]) -> AlterConfigsResource:
    named = [AlterableConfig(name=key, value=value) for key, value in configs.items()]
    return AlterConfigsResource(resource_type=kind, resource_name=name, configs=named)


async def alter(
    world: TopicWorld, *resources: AlterConfigsResource, version: int = 2, validate_only: bool = False
) -> list[AlterConfigsResourceResponse]:
    request = AlterConfigsRequest(resources=resources, validate_only=validate_only)
    return list((await world.ask(ApiKey.ALTER_CONFIGS, version, request)).responses)


@pytest.mark.parametrize("version", range(0, 3))
def test_replaced(version: int) -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a", retention_ms="5")
            (result,) = await alter(world, resource(TOPIC, "a", {"segment.ms": "9"}), version=version)
            assert (result.error_code, result.resource_type, result.resource_name) == (0, TOPIC, "a")
            topic = world.topics.by_name[TopicName("a")]
            assert topic.overrides == {"segment.ms": "9"}
            assert world.engine.topics[topic.topic_id].config.segment_ms == 9

    run(story)


def test_validate_only_and_refusals_change_nothing() -> None:
    async def story() -> None:
        async with topic_world() as world:
            for name in "abcd":
                await world.made(name)
            (result,) = await alter(world, resource(TOPIC, "a", {"segment.ms": "9"}), validate_only=True)
            assert result.error_code == 0
            twice = AlterConfigsResource(
                resource_type=TOPIC,
                resource_name="d",
                configs=[AlterableConfig(name="segment.ms", value=value) for value in "12"],
            )
            results = await alter(
                world,
                resource(TOPIC, "a", {"segment.ms": "0"}),
                resource(TOPIC, "b", {"segment.ms": None}),
                resource(TOPIC, "unknown", {}),
                resource(TOPIC, "c", {}),
                resource(TOPIC, "c", {}),
                twice,
                resource(99, "x", {}),
            )
            assert [result.error_code for result in results] == [
                ErrorCode.INVALID_CONFIG,
                ErrorCode.INVALID_CONFIG,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode.INVALID_REQUEST,
                ErrorCode.INVALID_REQUEST,
                ErrorCode.INVALID_REQUEST,
            ]
            assert all(not topic.overrides for topic in world.topics.by_name.values())

    run(story)


def test_what_has_no_configs_is_refused_with_what_to_do_instead() -> None:
    async def story() -> None:
        async with topic_world() as world:
            results = await alter(
                world,
                resource(BROKER, "7", {"log.retention.ms": "1"}),
                resource(BROKER, "", {"log.retention.ms": "1"}),
                resource(BROKER, "8", {}),
                resource(BROKER_LOGGER, "7", {"x": "DEBUG"}),
                resource(CLIENT_METRICS, "m", {"x": "1"}),
                resource(GROUP, "g", {"x": "1"}),
                resource(GROUP, "empty", {}),
            )
            refused = [ErrorCode.INVALID_REQUEST] * 5
            assert [result.error_code for result in results] == [*refused, ErrorCode.INVALID_CONFIG, 0]
            assert "restart" in (results[0].error_message or "")

    run(story)


def test_the_configs_of_a_group_are_replaced() -> None:
    async def story() -> None:
        async with topic_world() as world:
            configs = world.group_configs
            both = {"consumer.session.timeout.ms": "50000", "consumer.heartbeat.interval.ms": "6000"}
            (result,) = await alter(world, resource(GROUP, "g", both))
            assert (result.error_code, result.resource_type, result.resource_name) == (0, GROUP, "g")
            assert configs.applied("g", GroupSettings()).consumer_session_timeout_ms == 50_000
            (result,) = await alter(world, resource(GROUP, "g", {}), validate_only=True)
            assert configs.applied("g", GroupSettings()).consumer_heartbeat_interval_ms == 6_000
            (result,) = await alter(world, resource(GROUP, "g", {"consumer.heartbeat.interval.ms": "7000"}))
            applied = configs.applied("g", GroupSettings())
            assert (applied.consumer_session_timeout_ms, applied.consumer_heartbeat_interval_ms) == (45_000, 7_000)
            (result,) = await alter(world, resource(GROUP, "g", {}))
            assert result.error_code == 0
            assert configs.applied("g", GroupSettings()) == GroupSettings()

    run(story)


def test_denied() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            world.access = DenyAll()
            results = await alter(
                world, resource(TOPIC, "a", {}), resource(BROKER, "7", {}), resource(GROUP, "g", {"x": "1"})
            )
            assert [result.error_code for result in results] == [
                ErrorCode.TOPIC_AUTHORIZATION_FAILED,
                ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
                ErrorCode.GROUP_AUTHORIZATION_FAILED,
            ]

    run(story)
