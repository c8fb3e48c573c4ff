"""Control records: golden bytes, and what is not one."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.control import ControlType, Marker, control_type, marker_key, marker_value, parse_marker


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
