"""ListConfigResources: what has configurations of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from riverlog.gateways.kafka.handlers import list_config_resources
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_config_resources import ListConfigResourcesRequest
from riverlog.state.access import LIBRARY_CALLER, Access, AllowAll, DenyAll
from riverlog.testing.topic_world import topic_world

assert list_config_resources.list_config_resources


def ask(version: int, types: Sequence[int] = (), access: Access | None = None) -> tuple[int, list[tuple[str, int]]]:
    async def story() -> Any:
        async with topic_world() as world:
            await world.made("a")
            await world.group_configs.alter(LIBRARY_CALLER, "g", {"consumer.heartbeat.interval.ms": "6000"})
            await world.group_configs.alter(LIBRARY_CALLER, "none", {})
            world.access = access or AllowAll()
            request = ListConfigResourcesRequest(resource_types=types)
            return await world.ask(ApiKey.LIST_CONFIG_RESOURCES, version, request)

    answer = asyncio.run(story())
    return answer.error_code, [(one.resource_name, one.resource_type) for one in answer.config_resources]


def test_the_old_version_asks_for_client_metrics_alone() -> None:
    assert ask(0) == (0, [])


def test_all_or_by_type() -> None:
    assert ask(1) == (0, [("7", 4), ("7", 8), ("a", 2), ("g", 32)])
    assert ask(1, [2]) == (0, [("a", 2)])
    assert ask(1, [16, 32]) == (0, [("g", 32)])
    assert ask(1, [2, 99]) == (ErrorCode.UNSUPPORTED_VERSION, [])


def test_denied() -> None:
    assert ask(1, access=DenyAll()) == (ErrorCode.CLUSTER_AUTHORIZATION_FAILED, [])
