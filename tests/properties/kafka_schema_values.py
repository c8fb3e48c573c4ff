"""Random values for every Kafka message, as plain dictionaries that hold the fields of all versions; not a test itself.

One drawn value is projected onto each version in turn (`build`), so that a single example covers all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from riverlog.gateways.kafka import wire
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from tools.kafka_schema.definitions import NO_VERSIONS, Field, Message, Module, Struct, load_modules

MODULES: Final[dict[str, Module]] = {module.name: module for module in load_modules()}
MESSAGES: Final[dict[str, tuple[Module, Message]]] = {
    message.name: (module, message) for module in MODULES.values() for message in module.messages
}
THOROUGH: Final = os.environ.get("RIVERLOG_HYPOTHESIS") == "thorough"


def examples(count: int) -> settings:
    """The same examples at each run; thirty times as many where RIVERLOG_HYPOTHESIS=thorough."""
    return settings(
        max_examples=count * 30 if THOROUGH else count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def versions_of(message: Message) -> range:
    return range(message.versions.first, message.versions.last + 1)


BITS: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
TEXT: Final = st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(["", "topic", "é" * 70, "x" * 200])
LIVELY: Final = st.sampled_from(list(ErrorCode)).map(int)
SPAN_MS: Final = st.integers(-1, 10**9)
INSTANT_MS: Final = st.integers(-1, 10**12)


def is_span(field: Field) -> bool:
    """Counted in milliseconds: `kio` makes time spans or instants of them, which do not reach as far as the numbers."""
    return field.name.endswith("_ms") or "timestamp" in field.name or "time" in field.name


def scalar(field: Field) -> st.SearchStrategy[Any]:
    if field.type in BITS:
        if field.name.endswith("error_code"):
            return LIVELY
        if is_span(field):
            return INSTANT_MS if field.type == "int64" else SPAN_MS if field.type == "int32" else st.integers(-1, 99)
        if field.name.endswith("authorized_operations"):
            return st.sampled_from([-(1 << 31), 0b1111_1000, 0b1000])  # which kafka-python turns into sets
        half = 1 << BITS[field.type] - 1
        return st.integers(-half, half - 1) | st.integers(-1, 1)
    match field.type:
        case "bool":
            return st.booleans()
        case "uint16":
            return st.integers(0, 65535)
        case "float64":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "string":
            return TEXT
        case "bytes" | "records":
            return st.binary(max_size=9) | st.sampled_from([bytes(127), bytes(300), b"r" * 1500])
        case "uuid":
            return st.binary(min_size=16, max_size=16) | st.just(bytes(16))
    raise AssertionError(field.type)


def value_of(field: Field) -> st.SearchStrategy[Any]:
    one = struct_values(field.struct) if field.struct is not None else scalar(field)
    if field.array:
        one = st.lists(one, max_size=2 if field.struct is not None else 4)
        if field.struct is None and field.type in BITS:
            one |= st.just(list(range(20)))
    if field.nullable != NO_VERSIONS:
        one |= st.none()
    return one


def struct_values(struct: Struct) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field.name: value_of(field) for field in struct.fields})


def class_of(module: Module, struct: Struct) -> Any:
    return getattr(import_module(f"riverlog.gateways.kafka.schema.{module.name}"), struct.name)


def present_fields(struct: Struct, version: int) -> list[Field]:
    return [field for field in struct.fields if version in field.versions]


def build(module: Module, struct: Struct, values: dict[str, Any], version: int) -> Any:
    """The message of that version: fields that it does not have keep their defaults, and null is left out where it may
    not be."""
    arguments = {}
    for field in present_fields(struct, version):
        value = values[field.name]
        if value is None:
            if version in field.nullable:
                arguments[field.name] = None
            elif field.array:
                arguments[field.name] = ()
            elif field.struct is None:
                arguments[field.name] = "" if field.type == "string" else b""
            continue
        if field.struct is not None:
            inner = field.struct
            value = (
                [build(module, inner, each, version) for each in value]
                if field.array
                else build(module, inner, value, version)
            )
        arguments[field.name] = value
    return class_of(module, struct)(**arguments)


def encode(module: Module, message: Message, version: int, value: Any) -> bytes:
    """The body alone."""
    match message.kind:
        case "request":
            frame = wire.encode_request(module.api_key, version, 1, None, value)
            return frame[14 + wire.is_flexible(module.api_key, version) :]
        case "response":
            parts = wire.encode_response(module.api_key, version, 1, value)
            frame = b"".join(bytes(part) for part in parts)  # type: ignore[arg-type]
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4
            has_tags = wire.is_flexible(module.api_key, version) and module.name != "api_versions"
            return frame[8 + has_tags :]
        case _:
            return wire.encode_structure(version, value)


def decode(module: Module, message: Message, version: int, body: bytes) -> Any:
    match message.kind:
        case "request":
            return wire.decode_request(module.api_key, version, body)
        case "response":
            has_tags = wire.is_flexible(module.api_key, version) and module.name != "api_versions"
            return wire.decode_response(module.api_key, version, b"\0\0\0\1" + b"\0" * has_tags + body)[1]
        case _:
            return wire.decode_structure(class_of(module, message.root), version, body)


def all_cases() -> Iterator[tuple[str, int]]:
    """Every message and version."""
    for name, (_, message) in MESSAGES.items():
        for version in versions_of(message):
            yield name, version
