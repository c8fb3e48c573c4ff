"""The table of api keys against facts that are written down elsewhere."""

from __future__ import annotations

from importlib import import_module

import pytest

from riverlog.gateways.kafka import wire
from riverlog.gateways.kafka.schema.api_keys import CODECS, STRUCTURES, VERSIONS, ApiKey


def test_every_key_has_versions_and_code() -> None:
    assert set(ApiKey) == set(VERSIONS) == set(CODECS)
    assert [ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS, ApiKey.DESCRIBE_TOPIC_PARTITIONS] == [0, 1, 2, 75]


@pytest.mark.parametrize(
    ("key", "versions"),
    [
        ("PRODUCE", (3, 13, 9)),
        ("FETCH", (4, 18, 12)),
        ("METADATA", (0, 13, 9)),
        ("API_VERSIONS", (0, 4, 3)),
        ("INIT_PRODUCER_ID", (0, 5, 2)),  # 6 is not stable
        ("SASL_HANDSHAKE", (0, 1, 32767)),  # never flexible
        ("JOIN_GROUP", (0, 9, 6)),
    ],
)
def test_the_versions_of_kafka_4_3(key: str, versions: tuple[int, int, int]) -> None:
    assert VERSIONS[ApiKey[key]] == versions


@pytest.mark.parametrize("key", ApiKey)
def test_the_codec_has_each_version_in_both_directions(key: ApiKey) -> None:
    codec = import_module(f"riverlog.gateways.kafka.schema.codec.{CODECS[key]}")
    first, last, _ = VERSIONS[key]
    for table in (codec.READ_REQUEST, codec.WRITE_REQUEST, codec.READ_RESPONSE, codec.WRITE_RESPONSE):
        assert list(table) == list(range(first, last + 1))


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_is_a_class_of_that_name(name: str) -> None:
    structure = getattr(import_module(f"riverlog.gateways.kafka.schema.{STRUCTURES[name]}"), name)
    assert issubclass(structure, wire.Message)
