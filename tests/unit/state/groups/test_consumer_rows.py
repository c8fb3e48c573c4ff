"""Rows of the consumer protocol: docs/formats/group-rows.md."""

from __future__ import annotations

import pytest

from riverlog.base.errors import Corruption
from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import NOTHING
from riverlog.state.groups.consumer_rows import (
    ClassicFacts,
    ConsumerRow,
    SubscriptionRow,
    decode_current,
    decode_group,
    decode_subscription,
    decode_target,
    encode_current,
    encode_group,
    encode_subscription,
    encode_target,
)
from riverlog.state.groups.reconciliation import MemberState, Standing

T = TopicId(bytes(range(16)))
PARTS = {T: frozenset({3, 0})}
DYNAMIC = SubscriptionRow(60_000, None, None, "c", "/h", ("t", "u"), None, None, None)
CLASSIC = SubscriptionRow(1, "i", "r", "c", "/h", (), "a.*", "range", ClassicFacts(9, (("x", b"\x00"), ("y", b""))))


def test_bytes_are_those_of_the_page() -> None:
    assert encode_group(ConsumerRow(7, 6, "range")).hex() == "010000000700000006" + "00000005" + b"range".hex()
    assert encode_target(PARTS).hex() == "01" + "00000001" + T.hex() + "00000002" + "00000000" + "00000003"
    standing = Standing(5, 4, MemberState.UNREVOKED_PARTITIONS, NOTHING, PARTS)
    current = encode_current(standing).hex()
    assert current == "01" + "00000005" + "00000004" + "01" + "00000000" + encode_target(PARTS)[1:].hex()


def test_all_come_back_as_they_were() -> None:
    row = ConsumerRow(1, 0, "")
    assert decode_group("k", encode_group(row)) == row
    for subscription in (DYNAMIC, CLASSIC):
        assert decode_subscription("k", encode_subscription(subscription)) == subscription
    for standing in (Standing(), Standing(-2, 4, MemberState.UNRELEASED_PARTITIONS, PARTS, NOTHING)):
        assert decode_current("k", encode_current(standing)) == standing
    assert decode_target("k", encode_target(PARTS)) == PARTS


def test_a_state_that_is_not_known_is_corruption() -> None:
    row = bytearray(encode_current(Standing()))
    row[9] = 3
    with pytest.raises(Corruption, match="state 3"):
        decode_current("k", bytes(row))


@pytest.mark.parametrize("cut", [0, 1, 5, -1])
def test_what_is_cut_short_is_corruption(cut: int) -> None:
    with pytest.raises(Corruption):
        decode_subscription("k", encode_subscription(CLASSIC)[:cut])
    with pytest.raises(Corruption):
        decode_target("k", encode_target(PARTS)[:cut])
    with pytest.raises(Corruption):
        decode_group("k", encode_group(ConsumerRow(1, 1, "uniform"))[:cut])


def test_bytes_behind_the_end_are_corruption() -> None:
    with pytest.raises(Corruption, match="after the end"):
        decode_target("k", encode_target(PARTS) + b"x")
