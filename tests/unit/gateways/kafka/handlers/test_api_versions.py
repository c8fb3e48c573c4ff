"""ApiVersions: exactly what the handlers declare, for every version of the request."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.gateways.kafka.dispatch import HANDLERS, load_handlers
from riverlog.gateways.kafka.handlers import api_versions
from riverlog.gateways.kafka.schema.api_keys import VERSIONS, ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest
from riverlog.testing.brokers import memory_broker
from riverlog.testing.kafka_calls import Calls

assert api_versions.announced

ISSUE = {
    *(0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23),
    *(24, 25, 26, 27, 28, 61, 65, 66),
    *(32, 33, 37, 42, 44, 60, 75),
}


@pytest.mark.parametrize("version", range(5))
def test_what_is_announced_is_what_is_served(version: int) -> None:
    async def story() -> None:
        async with memory_broker() as broker:
            request = ApiVersionsRequest(client_software_name="x", client_software_version="1")
            answer = await Calls(broker).ask(ApiKey.API_VERSIONS, version, request)
            told = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}
            assert set(told) >= ISSUE
            assert told.pop(0) == (0, 13)
            assert told == {
                key: (handler.versions.start, handler.versions.stop - 1) for key, handler in HANDLERS.items() if key
            }
            assert [key.api_key for key in answer.api_keys] == sorted([0, *told])
            levels = {key.name: (key.min_version_level, key.max_version_level) for key in answer.finalized_features}
            supported = {key.name: (key.min_version, key.max_version) for key in answer.supported_features}
            lowest = 0 if version >= 4 else 1
            if version >= 3:
                assert levels == {"transaction.version": (2, 2), "group.version": (1, 1)}
                assert supported == {"transaction.version": (lowest, 2), "group.version": (lowest, 1)}
                assert answer.finalized_features_epoch == 0
            else:
                assert (levels, supported) == ({}, {})

    asyncio.run(story())


def test_every_stable_version_of_each_api_is_served() -> None:
    load_handlers()
    for key, handler in HANDLERS.items():
        first, last, _ = VERSIONS[key]
        assert handler.versions == range(first, last + 1), ApiKey(key).name
