"""Committed offsets: the rows that each change asks for."""

from __future__ import annotations

from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import CommittedOffset
from riverlog.state.groups.offsets import Offsets, unknown_topic_age_ms_max
from riverlog.state.groups.rows import encode_offset, offset_key

A = TopicId(b"a" * 16)
B = TopicId(b"b" * 16)
A0, A1, B0 = PartitionId(A, 0), PartitionId(A, 1), PartitionId(B, 0)


def committed(offset: int, commit_ms: int = 0, expire_ms: int = -1) -> CommittedOffset:
    return CommittedOffset(offset, -1, "", commit_ms, expire_ms)


def test_a_commit_writes_one_row_a_partition_and_overwrites() -> None:
    offsets = Offsets()
    assert offsets.commit({A0: committed(1), B0: committed(2)}) == {
        offset_key(A0): encode_offset(committed(1)),
        offset_key(B0): encode_offset(committed(2)),
    }
    assert offsets.commit({A0: committed(3)}) == {offset_key(A0): encode_offset(committed(3))}
    assert offsets.fetch(None) == {A0: committed(3), B0: committed(2)}
    assert offsets.fetch([B0, A1]) == {B0: committed(2)}


def test_removing_writes_only_what_was_there() -> None:
    offsets = Offsets()
    offsets.commit({A0: committed(1), A1: committed(1), B0: committed(2)})
    assert offsets.remove([A0, A0]) == {offset_key(A0): None}
    assert offsets.remove([A0]) == {}
    assert offsets.drop_topics({A}) == {offset_key(A1): None}
    assert len(offsets) == 1


def test_a_cut_touches_only_what_lies_beyond() -> None:
    offsets = Offsets()
    offsets.commit({A0: committed(9)._replace(leader_epoch=4, metadata="m")})
    assert offsets.cut(A0, 9) == {}
    assert offsets.cut(A1, 0) == {}
    assert list(offsets.cut(A0, 5)) == [offset_key(A0)]
    assert offsets.fetch([A0])[A0] == CommittedOffset(5, -1, "m", 0)


def test_expiry_asks_since_when_nobody_needs_it() -> None:
    offsets = Offsets()
    offsets.commit({A0: committed(1), A1: committed(1, expire_ms=40), B0: committed(1)})
    since = {"a": 10, "b": None}
    rows = offsets.expire(
        now_ms=60, retention_ms=50, names={A: "a", B: "b"}, idle_since_ms=lambda name, _: since[name]
    )
    assert rows == {offset_key(A0): None, offset_key(A1): None}
    assert [partition for partition, _ in offsets.items()] == [B0]


def test_offsets_of_unknown_topics_wait_a_while() -> None:
    offsets = Offsets()
    offsets.commit({A0: committed(1, commit_ms=5)})
    for age_ms, left in ((unknown_topic_age_ms_max - 1, 1), (unknown_topic_age_ms_max, 0)):
        offsets.expire(now_ms=5 + age_ms, retention_ms=0, names={}, idle_since_ms=lambda name, one: 0)
        assert len(offsets) == left
