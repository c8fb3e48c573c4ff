"""The bytes of a group's rows: golden, there and back, and damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverlog.base.errors import Corruption
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import CommittedOffset
from riverlog.state.groups.rows import (
    ClassicRow,
    MemberRow,
    decode_classic,
    decode_member,
    decode_offset,
    encode_classic,
    encode_member,
    encode_offset,
    offset_key,
    partition_of_key,
)

int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
name = st.none() | st.text(max_size=8)

CLASSIC = ClassicRow(7, 1_700_000_000_000, "consumer", "range", None)
MEMBER = MemberRow("i", "c", "/127.0.0.1", 10_000, 60_000, (("range", b"\x01"),), b"part")
OFFSET = CommittedOffset(42, 3, "é", 1_700_000_000_000, -1)


def test_golden_bytes() -> None:
    """What was written once is read for good: docs/formats/group-rows.md."""
    assert encode_classic(CLASSIC).hex() == (
        "01" "00000007" "0000018bcfe56800" "00000008" "636f6e73756d6572" "00000005" "72616e6765" "ffffffff"
    )
    assert encode_member(MEMBER).hex() == (
        "01" "00002710" "0000ea60" "00000001" "69" "00000001" "63" "0000000a" "2f3132372e302e302e31"
        "00000001" "00000005" "72616e6765" "00000001" "01" "00000004" "70617274"
    )
    assert encode_offset(OFFSET).hex() == (
        "01" "000000000000002a" "00000003" "0000018bcfe56800" "ffffffffffffffff" "c3a9"
    )


@given(st.builds(ClassicRow, int32, int64, name, name, name))
def test_classic_rows_come_back(row: ClassicRow) -> None:
    assert decode_classic("classic", encode_classic(row)) == row


@given(
    st.builds(
        MemberRow,
        name,
        st.text(max_size=8),
        st.text(max_size=8),
        int32,
        int32,
        st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple),
        st.binary(max_size=9),
    )
)
def test_member_rows_come_back(row: MemberRow) -> None:
    assert decode_member("member/x", encode_member(row)) == row


@given(st.builds(CommittedOffset, int64, int32, st.text(max_size=9), int64, int64))
def test_offset_rows_come_back(row: CommittedOffset) -> None:
    assert decode_offset("offset/x", encode_offset(row)) == row


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**31 - 1))
def test_offset_keys_come_back(topic_id: bytes, index: int) -> None:
    partition = PartitionId(TopicId(topic_id), index)
    assert partition_of_key(offset_key(partition)) == partition


@pytest.mark.parametrize("key", ["offset/", "offset/short/1", "offset/AAAAAAAAAAAAAAAAAAAAAA/x"])
def test_a_key_that_is_no_offset_is_damage(key: str) -> None:
    with pytest.raises(Corruption):
        partition_of_key(key)


@pytest.mark.parametrize("size", range(len(encode_member(MEMBER))))
def test_a_member_row_cut_short_is_damage(size: int) -> None:
    with pytest.raises(Corruption, match="member/x"):
        decode_member("member/x", encode_member(MEMBER)[:size])


@pytest.mark.parametrize("size", range(len(encode_classic(CLASSIC))))
def test_a_classic_row_cut_short_is_damage(size: int) -> None:
    with pytest.raises(Corruption):
        decode_classic("classic", encode_classic(CLASSIC)[:size])


def test_other_damage() -> None:
    with pytest.raises(Corruption, match="after the end"):
        decode_classic("classic", encode_classic(CLASSIC) + b"x")
    with pytest.raises(Corruption, match="format 2"):
        decode_classic("classic", b"\x02" + encode_classic(CLASSIC)[1:])
    with pytest.raises(Corruption, match="UTF-8"):
        decode_offset("offset/x", encode_offset(OFFSET) + b"\xff")
    with pytest.raises(Corruption, match="UTF-8"):
        decode_classic("classic", encode_classic(CLASSIC).replace(b"range", b"rang\xff"))
    with pytest.raises(Corruption, match="short"):
        decode_offset("offset/x", b"\x01")
