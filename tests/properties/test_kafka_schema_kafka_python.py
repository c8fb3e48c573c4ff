"""Byte for byte what PyPI `kafka-python` reads and writes, for every message and version that it knows."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverlog.gateways.kafka.wire import Message as Value
from tests.properties.kafka_schema_values import (
    MESSAGES,
    all_cases,
    build,
    decode,
    encode,
    examples,
    present_fields,
    struct_values,
    versions_of,
)  # fmt: skip
from tools.kafka_schema.definitions import Struct

# kafka-python's import of its own resources.
pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

PACKAGES: Final = ("admin", "consumer", "metadata", "producer", "sasl")
UNKNOWN_MESSAGES: Final[frozenset[str]] = frozenset(
    {
        "AlterShareGroupOffsetsRequest",
        "AlterShareGroupOffsetsResponse",
        "ConsumerGroupDescribeRequest",
        "ConsumerGroupDescribeResponse",
        "ConsumerGroupHeartbeatRequest",
        "ConsumerGroupHeartbeatResponse",
        "ControlRecordTypeSchema",
        "CreateDelegationTokenRequest",
        "CreateDelegationTokenResponse",
        "DefaultPrincipalData",
        "DeleteShareGroupOffsetsRequest",
        "DeleteShareGroupOffsetsResponse",
        "DescribeDelegationTokenRequest",
        "DescribeDelegationTokenResponse",
        "DescribeShareGroupOffsetsRequest",
        "DescribeShareGroupOffsetsResponse",
        "EndTxnMarker",
        "ExpireDelegationTokenRequest",
        "ExpireDelegationTokenResponse",
        "GetTelemetrySubscriptionsRequest",
        "GetTelemetrySubscriptionsResponse",
        "PushTelemetryRequest",
        "PushTelemetryResponse",
        "RenewDelegationTokenRequest",
        "RenewDelegationTokenResponse",
        "RequestHeader",
        "ResponseHeader",
        "ShareAcknowledgeRequest",
        "ShareAcknowledgeResponse",
        "ShareFetchRequest",
        "ShareFetchResponse",
        "ShareGroupDescribeRequest",
        "ShareGroupDescribeResponse",
        "ShareGroupHeartbeatRequest",
        "ShareGroupHeartbeatResponse",
        "StreamsGroupDescribeRequest",
        "StreamsGroupDescribeResponse",
        "StreamsGroupHeartbeatRequest",
        "StreamsGroupHeartbeatResponse",
    }
)
# Versions of messages that it has otherwise.
UNKNOWN_VERSIONS: Final[frozenset[tuple[str, int]]] = frozenset(
    {
    }
)


def their_class(name: str) -> Any | None:
    for package in PACKAGES:
        if (found := getattr(import_module(f"kafka.protocol.{package}"), name, None)) is not None:
            return found
    return None


def knows(theirs: Any, version: int) -> bool:
    first, last = theirs.valid_versions
    return bool(first <= version <= last)


def plain(value: Any) -> Any:
    """A value of kafka-python as the protocol has it."""
    match value:
        case UUID():
            return value.bytes
        case set():  # of operations
            return sum(1 << int(bit) for bit in value)
    return value


def attribute(theirs: Any, name: str) -> Any:
    if name.endswith("_authorized_operations") and not hasattr(theirs, name):
        name = "authorized_operations"
    return getattr(theirs, name)


def assert_same(struct: Struct, version: int, ours: Value, theirs: Any) -> None:
    for field in present_fields(struct, version):
        mine, other = getattr(ours, field.name), attribute(theirs, field.name)
        where = f"{struct.name}.{field.name} in version {version}"
        if field.type == "uuid" and other is None:
            assert mine == bytes(16), where
        elif other is None and version in field.tagged and field.struct is not None:
            assert mine == type(mine)(), where  # it has no value for a struct that was not sent
        elif field.name.endswith("authorized_operations") and other is None:
            assert mine == -(1 << 31), where
        elif mine is None or other is None:
            assert mine is other, where
        elif field.array:
            assert len(mine) == len(other), where
            for left, right in zip(mine, other, strict=True):
                if field.struct is not None:
                    assert_same(field.struct, version, left, right)
                else:
                    assert plain(right) == left, where
        elif field.struct is not None:
            assert_same(field.struct, version, mine, other)
        else:
            assert plain(other) == mine, where


@pytest.mark.parametrize("name", [name for name in MESSAGES if name not in UNKNOWN_MESSAGES])
def test_kafka_python_reads_and_writes_the_same_bytes(name: str) -> None:
    module, message = MESSAGES[name]
    theirs = their_class(name)
    assert theirs is not None

    @examples(12)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        values = data.draw(struct_values(message.root))
        if name == "ApiVersionsResponse":
            values["error_code"] = 0  # with any other it reads a v0 body
        for version in versions_of(message):
            if not knows(theirs, version):
                assert (name, version) in UNKNOWN_VERSIONS
                continue
            value = build(module, message.root, values, version)
            body = encode(module, message, version, value)
            read = theirs.decode(body, version=version, header=False)
            assert_same(message.root, version, value, read)
            if message.kind in ("request", "response"):
                read._header = None  # which its decoder leaves unset, and its encoder asks for
            written = read.encode(version=version, header=False)
            assert bytes(written) == body
            assert decode(module, message, version, bytes(written)) == value

    check()


def test_what_kafka_python_does_not_know_is_listed() -> None:
    classes = {name: their_class(name) for name in MESSAGES}
    assert {name for name, found in classes.items() if found is None} == UNKNOWN_MESSAGES
    missing = {
        (name, version) for name, version in all_cases() if classes[name] is not None and not knows(classes[name], version)
    }
    assert missing == UNKNOWN_VERSIONS
