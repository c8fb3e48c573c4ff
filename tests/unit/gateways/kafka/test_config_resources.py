"""The kinds of resources that have configs."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.config_resources import (
    ConfigResourceType,
    check_access,
    check_nothing_to_alter,
    resource_kind,
    resource_type,
)
from riverlog.state.access import DenyAll, Operation, ResourceKind
from riverlog.testing.topic_world import topic_world


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    assert resource_type(2) is ConfigResourceType.TOPIC
    with pytest.raises(RiverlogError, match=r"2 \(TOPIC\)") as caught:
        resource_type(3)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_whose_authorization_error_it_is() -> None:
    assert [resource_kind(code) for code in (2, 4, 8, 16, 32, 99)] == [
        ResourceKind.TOPIC,
        ResourceKind.CLUSTER,
        ResourceKind.CLUSTER,
        ResourceKind.CLUSTER,
        ResourceKind.GROUP,
        ResourceKind.CLUSTER,
    ]


def test_access_is_asked_before_anything_is_said_of_the_resource() -> None:
    async def story() -> None:
        async with topic_world() as world:
            world.access = DenyAll()
            for kind in (ConfigResourceType.BROKER, ConfigResourceType.GROUP):
                with pytest.raises(RiverlogError) as caught:
                    check_nothing_to_alter(world.call(1), kind, "nobody", ["x"])
                assert caught.value.kind is ErrorKind.UNAUTHORIZED
            with pytest.raises(RiverlogError, match="not allowed to describe configs of group 'g'"):
                check_access(world.call(1), Operation.DESCRIBE_CONFIGS, 32, "g")

    asyncio.run(story())
