"""DescribeConfigs: values with their sources, of topics and of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from riverlog.broker.settings import BrokerSettings
from riverlog.gateways.kafka.handlers import describe_configs
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResult,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import LIBRARY_CALLER, DenyAll
from riverlog.testing.topic_world import TopicWorld, topic_world

assert describe_configs.describe_configs

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def wrapped() -> None:
        await asyncio.wait_for(story(), 20)

    asyncio.run(wrapped())


async def describe(
    world: TopicWorld,
    *resources: tuple[int, str],
    keys: Sequence[str] | None = None,
    version: int = 4,
    everything: bool = True,
) -> list[DescribeConfigsResult]:
    request = DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
            for kind, name in resources
        ],
        include_synonyms=everything,
        include_documentation=everything and version >= 3,
    )
    return list((await world.ask(ApiKey.DESCRIBE_CONFIGS, version, request)).results)


@pytest.mark.parametrize("version", range(1, 5))
def test_a_topics_configs_with_sources_and_synonyms(version: int) -> None:
    async def story() -> None:
        settings = BrokerSettings(topic_defaults={"retention.ms": "50", "segment.bytes": "2000000"})
        async with topic_world(settings=settings) as world:
            await world.made("a", retention_ms="5")
            (result,) = await describe(world, (TOPIC, "a"), version=version)
            assert (result.error_code, result.resource_type, result.resource_name) == (0, TOPIC, "a")
            configs = {config.name: config for config in result.configs}
            assert len(configs) == 35
            retention = configs["retention.ms"]
            assert (retention.value, retention.config_source, retention.read_only) == ("5", 1, False)
            assert [(one.name, one.value, one.source) for one in retention.synonyms] == [
                ("retention.ms", "5", 1),
                ("log.retention.ms", "50", 4),
                ("log.retention.ms", "604800000", 5),
            ]
            assert (configs["segment.bytes"].value, configs["segment.bytes"].config_source) == ("2000000", 4)
            assert (configs["preallocate"].value, configs["preallocate"].config_source) == ("false", 5)
            if version >= 3:
                assert (retention.config_type, configs["cleanup.policy"].config_type) == (5, 7)
                assert "kept" in (retention.documentation or "").lower()

    run(story)


def test_names_choose_and_unknown_ones_are_left_out() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            (result,) = await describe(world, (TOPIC, "a"), keys=["segment.ms", "none"], everything=False)
            (config,) = result.configs
            assert (config.name, config.documentation, list(config.synonyms)) == ("segment.ms", None, [])
            (result,) = await describe(world, (TOPIC, "a"), keys=[])
            assert len(result.configs) == 35

    run(story)


def test_the_brokers_settings() -> None:
    async def story() -> None:
        settings = BrokerSettings(num_partitions=3, topic_defaults={"retention.ms": "50"})
        async with topic_world(settings=settings) as world:
            (result,) = await describe(world, (BROKER, "7"))
            configs = {config.name: config for config in result.configs}
            assert (configs["num.partitions"].value, configs["num.partitions"].config_source) == ("3", 4)
            assert configs["num.partitions"].read_only
            assert configs["auto.create.topics.enable"].value == "true"
            assert (configs["log.retention.ms"].value, configs["log.retention.ms"].config_source) == ("50", 4)
            assert configs["log.segment.bytes"].config_source == 5
            assert list(configs) == sorted(configs)
            assert configs["advertised.listeners"].value.startswith("PLAINTEXT://")
            assert configs["advertised.listeners"].config_source == 4
            assert configs["node.id"].value == "7"

    run(story)


def test_other_resources_are_empty_or_refused() -> None:
    async def story() -> None:
        async with topic_world() as world:
            results = await describe(
                world, (GROUP, "g"), (CLIENT_METRICS, "m"), (BROKER_LOGGER, "7"), (BROKER, ""),
                (BROKER, "8"), (BROKER_LOGGER, "8"), (99, "x"), (TOPIC, "unknown"), (TOPIC, "a b"),
            )  # fmt: skip
            assert [result.error_code for result in results] == [
                0, 0, 0, 0, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_REQUEST,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.INVALID_TOPIC_EXCEPTION,
            ]  # fmt: skip
            assert not any(result.configs for result in results[1:])
            assert [config.name for config in results[0].configs] == [
                "consumer.assignment.interval.ms", "consumer.heartbeat.interval.ms", "consumer.session.timeout.ms",
            ]  # fmt: skip
            assert all(result.error_message for result in results[4:])

    run(story)


def test_a_group_shows_its_own_value_before_the_brokers() -> None:
    async def story() -> None:
        settings = BrokerSettings(group_consumer_heartbeat_interval_ms=8_000)
        async with topic_world(settings=settings) as world:
            name = "consumer.heartbeat.interval.ms"
            await world.group_configs.alter(LIBRARY_CALLER, "g", {name: "9000"})
            own, default = await describe(world, (GROUP, "g"), (GROUP, "other"), keys=[name])
            assert [(one.value, one.config_source, one.read_only) for one in own.configs] == [("9000", 8, False)]
            assert [(one.name, one.value, one.source) for one in own.configs[0].synonyms] == [
                (name, "9000", 8), (f"group.{name}", "8000", 4), (f"group.{name}", "5000", 5),
            ]  # fmt: skip
            assert [(one.value, one.config_source) for one in default.configs] == [("8000", 4)]
            (unnamed,) = await describe(world, (GROUP, ""))
            assert unnamed.error_code == ErrorCode.INVALID_REQUEST

    run(story)


def test_denied() -> None:
    async def story() -> None:
        async with topic_world() as world:
            await world.made("a")
            world.access = DenyAll()
            results = await describe(world, (TOPIC, "a"), (TOPIC, "unknown"), (BROKER, "7"), (GROUP, "g"))
            assert [result.error_code for result in results] == [
                ErrorCode.TOPIC_AUTHORIZATION_FAILED,
                ErrorCode.TOPIC_AUTHORIZATION_FAILED,
                ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
                ErrorCode.GROUP_AUTHORIZATION_FAILED,
            ]

    run(story)
