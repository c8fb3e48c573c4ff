"""One record as one line of JSON: what `consume --json` prints and `produce --json` reads.

    {"topic":"t","partition":0,"offset":7,"timestamp":1357034400000,"key":"N14228","value":"…","headers":[{"key":"h","value":"v"}]}

Bytes that are UTF-8 are text under their name; other bytes are base64 under `key_base64`, `value_base64`; null is null.
`timestamp` is milliseconds since 1970 (UTC). Reading ignores topic, partition and offset: the broker gives them.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from riverlog.base.units import INT64_MAX

_NAMES: Final = frozenset(
    ("topic", "partition", "offset", "timestamp", "key", "key_base64", "value", "value_base64", "headers")
)

Header = tuple[str, bytes | None]


class NewRecord(NamedTuple):
    """What is to be produced. `timestamp_ms` None: now."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: tuple[Header, ...]


class MalformedRecord(ValueError):
    """A line that is not a record. The message says what is wrong with it."""


def to_json(
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int | None,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[Header],
) -> str:
    """One line, without its newline."""
    record: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset}
    if timestamp_ms is not None:
        record["timestamp"] = timestamp_ms
    record |= _field("key", key) | _field("value", value)
    if headers:
        record["headers"] = [{"key": name, **_field("value", data)} for name, data in headers]
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def from_json(line: str | bytes) -> NewRecord:
    """The record of one line. Raises MalformedRecord."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord("it is not JSON") from error
    if not isinstance(record, dict):
        raise MalformedRecord('it is not an object: give {"key": …, "value": …}')
    if unknown := sorted(record.keys() - _NAMES):
        raise MalformedRecord(f"{unknown[0]!r} is no field of a record: there are {', '.join(sorted(_NAMES))}")
    timestamp = record.get("timestamp")
    if timestamp is not None and (type(timestamp) is not int or not 0 <= timestamp <= INT64_MAX):
        raise MalformedRecord("timestamp is not a whole number of milliseconds since 1970")
    return NewRecord(_bytes(record, "key"), _bytes(record, "value"), timestamp, _headers(record.get("headers")))


def _field(name: str, data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(data).decode("ascii")}


def _bytes(record: dict[str, Any], name: str) -> bytes | None:
    text, encoded = record.get(name), record.get(f"{name}_base64")
    if text is not None and encoded is not None:
        raise MalformedRecord(f"it has both {name} and {name}_base64: give one")
    for which, content in ((name, text), (f"{name}_base64", encoded)):
        if content is not None and not isinstance(content, str):
            raise MalformedRecord(f"{which} is not a text: write JSON inside it as a quoted text")
    try:
        if encoded is not None:
            return b64decode(encoded, validate=True)
        return None if text is None else text.encode("utf-8")
    except ValueError as error:
        what = "base64" if encoded is not None else "text that UTF-8 can hold"
        raise MalformedRecord(f"{name} is not {what}") from error


def _headers(headers: Any) -> tuple[Header, ...]:
    if headers is None:
        return ()
    if not isinstance(headers, list) or not all(
        isinstance(one, dict) and isinstance(one.get("key"), str) and one.keys() <= {"key", "value", "value_base64"}
        for one in headers
    ):
        raise MalformedRecord('headers is not a list of {"key": …, "value": …}')
    return tuple((one["key"], _bytes(one, "value")) for one in headers)
