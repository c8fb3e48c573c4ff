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


def test_a_pending_offset_is_unstable_until_its_transaction_commits_and_keeps_time_and_metadata() -> None:
    offsets = Offsets()
    offsets.commit({A0: committed(1)})
    mine = CommittedOffset(7, 2, "mine", 30, -1)
    offsets.commit_pending("x", 1, {A0: mine, A1: mine})
    assert offsets.fetch([A0, A1]) == {A0: committed(1)}
    assert offsets.unstable([A0, B0]) == {A0}
    assert offsets.unstable(None) == {A0, A1}
    assert offsets.undecided() == [("x", 1)]
    rows = offsets.end_pending("x", 1, True)
    assert {key: value for key, value in rows.items() if value is not None} == {
        offset_key(A0): encode_offset(mine),
        offset_key(A1): encode_offset(mine),
    }
    assert sum(value is None for value in rows.values()) == 2
    assert offsets.fetch(None) == {A0: mine, A1: mine}
    assert not offsets.unstable(None)
    assert offsets.end_pending("x", 1, True) == {}


def test_an_aborted_transaction_leaves_nothing() -> None:
    offsets = Offsets()
    offsets.commit({A0: committed(1)})
    offsets.commit_pending("x", 1, {A0: committed(9), A1: committed(9)})
    rows = offsets.end_pending("x", 1, False)
    assert set(rows.values()) == {None}
    assert len(rows) == 2
    assert offsets.fetch(None) == {A0: committed(1)}
    assert offsets.undecided() == []


def test_what_was_written_last_wins_whatever_ends_first() -> None:
    offsets = Offsets()
    offsets.commit_pending("x", 1, {A0: committed(10), A1: committed(10)})
    offsets.commit_pending("y", 1, {A0: committed(20)})
    offsets.end_pending("y", 1, True)
    assert offsets.unstable(None) == {A1}  # what x wrote of A0 before can never count
    offsets.end_pending("x", 1, True)
    assert offsets.fetch(None) == {A0: committed(20), A1: committed(10)}
    offsets.commit_pending("x", 2, {A0: committed(30)})
    offsets.commit_pending("y", 2, {A0: committed(40)})
    offsets.end_pending("x", 2, True)
    assert offsets.fetch([A0]) == {A0: committed(30)}
    offsets.end_pending("y", 2, True)
    assert offsets.fetch([A0]) == {A0: committed(40)}
    offsets.commit_pending("x", 3, {A0: committed(50)})
    offsets.commit({A0: committed(5)})
    assert not offsets.unstable(None)
    assert offsets.end_pending("x", 3, True) == {}
    assert offsets.fetch([A0]) == {A0: committed(5)}


def test_an_aborted_transaction_does_not_take_an_older_one_with_it() -> None:
    offsets = Offsets()
    offsets.commit_pending("x", 1, {A0: committed(10)})
    offsets.commit_pending("y", 1, {A0: committed(20)})
    offsets.end_pending("y", 1, False)
    offsets.end_pending("x", 1, True)
    assert offsets.fetch(None) == {A0: committed(10)}


def test_removing_takes_pending_offsets_along() -> None:
    offsets = Offsets()
    offsets.commit_pending("x", 1, {A0: committed(1), B0: committed(1)})
    offsets.commit({A1: committed(1)})
    assert len(offsets) == 3
    assert len(offsets.remove([A0])) == 1
    assert len(offsets.drop_topics({B})) == 1
    offsets.commit_pending("x", 1, {A0: committed(1)})
    assert len(offsets.clear()) == 2
    assert len(offsets) == 0
    assert offsets.end_pending("x", 1, True) == {}


def test_a_partition_with_a_pending_offset_does_not_expire_unless_its_topic_is_gone() -> None:
    offsets = Offsets()
    offsets.commit({A0: committed(1), A1: committed(1)})
    offsets.commit_pending("x", 1, {A0: committed(2)})
    later = unknown_topic_age_ms_max

    def expire(names: dict[TopicId, str], now_ms: int = later) -> int:
        rows = offsets.expire(now_ms=now_ms, retention_ms=1, names=names, idle_since_ms=lambda _, __: 0)
        return len(rows)

    assert expire({A: "a"}) == 1
    assert offsets.fetch(None) == {A0: committed(1)}
    assert expire({}, later - 1) == 0
    assert expire({}) == 2
    assert len(offsets) == 0


def test_a_cut_reaches_pending_offsets() -> None:
    offsets = Offsets()
    offsets.commit_pending("x", 1, {A0: committed(9)})
    assert len(offsets.cut(A0, 5)) == 1
    offsets.end_pending("x", 1, True)
    assert offsets.fetch([A0])[A0].offset == 5
