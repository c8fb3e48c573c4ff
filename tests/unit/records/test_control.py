"""Control records: golden bytes, and what is not one."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.builder import build_batch, empty_batch, end_marker
from riverlog.records.control import (
    CONTROL_KEY,
    ControlType,
    Marker,
    control_type,
    marker_in,
    marker_key,
    marker_value,
    parse_marker,
)
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord


def test_golden() -> None:
    assert marker_key(ControlType.ABORT) == b"\0\0\0\0"
    assert marker_key(ControlType.COMMIT) == b"\0\0\0\x01"
    assert marker_value(0x01020304) == b"\0\0\x01\x02\x03\x04"


@pytest.mark.parametrize("type_", list(ControlType))
def test_round_trip(type_: ControlType) -> None:
    assert parse_marker(marker_key(type_), marker_value(7)) == Marker(type_, 7)


def test_later_versions_are_read_as_far_as_known() -> None:
    assert parse_marker(b"\0\1\0\1more", b"\0\2\0\0\0\5more") == Marker(ControlType.COMMIT, 5)


def test_other_types_can_be_told() -> None:
    assert control_type(b"\0\0\0\2") == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, marker_value(0)),
        (b"\0\0\0", marker_value(0)),
        (b"\xff\xff\0\0", marker_value(0)),
        (b"\0\0\0\2", marker_value(0)),
        (b"\0\0\xff\xff", marker_value(0)),
        (b"\0\0\0\0", None),
        (b"\0\0\0\0", b"\0\0\0\0\0"),
        (b"\0\0\0\0", b"\xff\xff\0\0\0\0"),
    ],
)
def test_what_is_no_marker(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(RiverlogError) as caught:
        parse_marker(key, value)
    assert caught.value.kind is ErrorKind.INVALID_RECORD


def test_a_marker_is_read_from_its_batch() -> None:
    for type_ in ControlType:
        batch = end_marker(type_, producer_id=7, producer_epoch=2, coordinator_epoch=9, timestamp_ms=5)
        assert marker_in(batch, read_header(batch)) == Marker(type_, 9)
    other = build_batch([NewRecord(5, CONTROL_KEY.pack(0, 7), b"")], control=True)
    assert marker_in(other, read_header(other)) is None
    empty = empty_batch(3, 3, 0)
    assert marker_in(empty, read_header(empty)) is None
