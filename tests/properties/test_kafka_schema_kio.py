"""Byte for byte what PyPI `kio` reads and writes, for every message and version that it knows."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from enum import IntEnum
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
from tools.kafka_schema.definitions import Message, Module, Struct

UNKNOWN: Final[frozenset[tuple[str, int]]] = frozenset()  # (message, version) that kio does not have


def kio_class(module: Module, message: Message, version: int) -> Any | None:
    file = {"request": "request", "response": "response", "header": "header", "data": "data"}[message.kind]
    try:
        found = import_module(f"kio.schema.{module.name}.v{version}.{file}")
    except ModuleNotFoundError:
        return None
    return getattr(found, message.name)


def plain(value: Any) -> Any:
    """A value of kio as the protocol has it."""
    match value:
        case timedelta():
            return round(value.total_seconds() * 1000)
        case datetime():
            return round(value.timestamp() * 1000)
        case UUID():
            return value.bytes
        case IntEnum():
            return int(value)
    return value


def attribute(theirs: Any, name: str) -> Any:
    for candidate in (name, name.removesuffix("_ms"), f"{name}_"):
        if hasattr(theirs, candidate):
            return getattr(theirs, candidate)
    raise AssertionError(f"{type(theirs)} has no {name}")


def assert_same(struct: Struct, version: int, ours: Value, theirs: Any) -> None:
    for field in present_fields(struct, version):
        mine, other = getattr(ours, field.name), attribute(theirs, field.name)
        where = f"{struct.name}.{field.name} in version {version}"
        if mine is None:
            assert other is None or field.type == "uuid", where
        elif field.array:
            assert len(mine) == len(other), where
            for left, right in zip(mine, other, strict=True):
                if field.struct is not None:
                    assert_same(field.struct, version, left, right)
                else:
                    assert plain(right) == left, where
        elif field.struct is not None:
            assert_same(field.struct, version, mine, other)
        elif field.type == "uuid" and other is None:
            assert mine == bytes(16), where
        elif is_instant_none(field.name, mine, other):
            continue
        else:
            assert plain(other) == mine, where


def is_instant_none(name: str, mine: Any, other: Any) -> bool:
    """-1 milliseconds are no instant."""
    return other is None and mine == -1


@pytest.mark.parametrize("name", MESSAGES)
def test_kio_reads_and_writes_the_same_bytes(name: str) -> None:
    from kio.serial import entity_reader, entity_writer

    module, message = MESSAGES[name]
    known = {}
    for version in versions_of(message):
        if (found := kio_class(module, message, version)) is not None:
            known[version] = (entity_reader(found), entity_writer(found))
        else:
            assert (name, version) in UNKNOWN

    @examples(12)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        values = data.draw(struct_values(message.root))
        for version, (read, write) in known.items():
            value = build(module, message.root, values, version)
            body = encode(module, message, version, value)
            theirs, size = read(body, 0)
            assert size == len(body)
            assert_same(message.root, version, value, theirs)
            written = io.BytesIO()
            write(written, theirs)
            assert written.getvalue() == body
            assert decode(module, message, version, written.getvalue()) == value

    if known:
        check()


def test_what_kio_does_not_know_is_listed() -> None:
    missing = {case for case in all_cases() if kio_class(*MESSAGES[case[0]], case[1]) is None}
    assert missing == UNKNOWN
