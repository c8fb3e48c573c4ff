"""The bytes of classic consumers."""

from __future__ import annotations

import pytest

from riverlog.state.groups.consumer_protocol import decode_assignment, decode_subscription, encode_assignment
from riverlog.testing.group_driver import cooperative_subscription, subscription


def test_subscriptions_of_all_versions_are_read() -> None:
    old = decode_subscription(subscription("t", "u"))
    assert (old.topics, old.owned, old.rack_id) == (["t", "u"], {}, None)
    new = cooperative_subscription(["t"], {"t": {1, 0}}, 7)
    assert decode_subscription(new).owned == {"t": [0, 1]}
    with_rack = b"\x00\x03" + new[2:] + b"\x00\x01r"
    assert decode_subscription(with_rack).rack_id == "r"
    assert decode_subscription(b"\x00\x09" + with_rack[2:] + b"more").rack_id == "r"


@pytest.mark.parametrize("metadata", [b"", b"\x00", b"\x00\x00\x00\x00\x00\x01\x00\x05t", b"\x00\x00\x7f\xff\xff\xff"])
def test_what_is_no_subscription_is_refused(metadata: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_subscription(metadata)


def test_names_have_to_be_text() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        decode_subscription(b"\x00\x00\x00\x00\x00\x01\x00\x01\xff\xff\xff\xff\xff")


def test_assignments_come_back() -> None:
    parts = {"t": [0, 3], "u": [1]}
    assert decode_assignment(encode_assignment(parts)) == (parts, b"")
    assert decode_assignment(b"") == ({}, b"")
    assert decode_assignment(encode_assignment({})[:-4] + b"\x00\x00\x00\x02ab") == ({}, b"ab")
    with pytest.raises(ValueError, match=r".*"):
        decode_assignment(encode_assignment(parts)[:-8])
