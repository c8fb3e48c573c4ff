"""The one shape of a record as JSON: what `consume --json` prints, `produce --json` reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.cli.shape import MalformedRecord, NewRecord, from_json, to_json

maybe_bytes = st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode)
headers = st.lists(st.tuples(st.text(max_size=10), maybe_bytes), max_size=3)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(maybe_bytes, maybe_bytes, st.none() | st.integers(0, 2**63 - 1), headers)
def test_what_is_printed_is_read_back(
    key: bytes | None, value: bytes | None, timestamp_ms: int | None, of_record: list[tuple[str, bytes | None]]
) -> None:
    line = to_json(topic="t", partition=3, offset=7, timestamp_ms=timestamp_ms, key=key, value=value, headers=of_record)
    assert "\n" not in line
    assert from_json(line.encode()) == NewRecord(key, value, timestamp_ms, tuple(of_record))


def test_text_is_text_and_other_bytes_are_base64() -> None:
    line = to_json(topic="t", partition=0, offset=0, timestamp_ms=5, key=b"\xff", value="é".encode(), headers=())
    assert json.loads(line) == {
        "topic": "t", "partition": 0, "offset": 0, "timestamp": 5, "key_base64": "/w==", "value": "é",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not an object"),
        ('{"valeu": "x"}', "'valeu' is no field"),
        ('{"value": 5}', "value is not a text"),
        ('{"value": "a", "value_base64": "YQ=="}', "both"),
        ('{"key_base64": "???"}', "key is not base64"),
        ('{"value": "\\ud800"}', "UTF-8"),
        ('{"timestamp": "now"}', "timestamp"),
        ('{"timestamp": true}', "timestamp"),
        ('{"timestamp": -1}', "timestamp"),
        ('{"headers": {"a": "b"}}', "headers"),
        ('{"headers": [{"value": "b"}]}', "headers"),
    ],
)
def test_what_is_no_record_says_why(line: str, message: str) -> None:
    with pytest.raises(MalformedRecord, match=message):
        from_json(line)


def test_bytes_that_are_no_utf8_are_no_json() -> None:
    with pytest.raises(MalformedRecord, match="not JSON"):
        from_json(b'{"value": "\xff"}')
