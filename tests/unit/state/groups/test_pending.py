"""Offsets of open transactions: rows, the order in which they were written, and how they end."""

from __future__ import annotations

import pytest

from riverlog.base.errors import Corruption
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import CommittedOffset
from riverlog.state.groups.pending import (
    PendingOffset,
    PendingOffsets,
    TransactionName,
    decode_pending,
    encode_pending,
    names_of_key,
    pending_key,
)

A = TopicId(b"a" * 16)
A0, A1 = PartitionId(A, 0), PartitionId(A, 1)
FIRST, SECOND = TransactionName("x", 1), TransactionName("y/2/z", 7)


def committed(offset: int) -> CommittedOffset:
    return CommittedOffset(offset, 3, "märk", 1_000, -1)


def test_a_key_names_the_transaction_whatever_characters_its_id_has() -> None:
    for transaction in (FIRST, SECOND, TransactionName("", 1), TransactionName("a//b", 2)):
        assert names_of_key(pending_key(transaction, A1)) == (transaction, A1)


@pytest.mark.parametrize("key", ["pending/", "pending/x/y/0/t", "pending/1/short/0/t", f"pending/1/{'A' * 22}/x/t"])
def test_a_key_of_another_form_is_corruption(key: str) -> None:
    with pytest.raises(Corruption):
        names_of_key(key)


def test_the_bytes_of_a_row() -> None:
    row = encode_pending(PendingOffset(2, CommittedOffset(258, -1, "m", 5, -1)))
    assert row == (
        b"\x01" + b"\0" * 7 + b"\x02" + b"\0" * 6 + b"\x01\x02" + b"\xff" * 4 + b"\0" * 7 + b"\x05" + b"\xff" * 8 + b"m"
    )
    assert decode_pending("k", row) == PendingOffset(2, CommittedOffset(258, -1, "m", 5, -1))


@pytest.mark.parametrize("row", [b"", b"\x01" * 36, b"\x02" + bytes(36), b"\x01" + bytes(36) + b"\xff"])
def test_a_row_of_another_form_is_corruption(row: bytes) -> None:
    with pytest.raises(Corruption):
        decode_pending("k", row)


def test_what_is_loaded_is_what_was_written() -> None:
    pending = PendingOffsets()
    rows = pending.commit(FIRST, {A0: committed(1), A1: committed(2)})
    rows |= pending.commit(SECOND, {A0: committed(3)})
    again = PendingOffsets()
    for key, value in reversed(rows.items()):
        assert value is not None
        again.load(key, value)
    assert set(again.transactions()) == {FIRST, SECOND}
    assert set(again.partitions()) == {A0, A1}
    newer = again.commit(FIRST, {A1: committed(9)})
    value = newer[pending_key(FIRST, A1)]
    assert value is not None
    assert decode_pending("k", value).order == 4  # later than all that were loaded


def test_taking_gives_what_the_transaction_wrote_last_and_nothing_the_second_time() -> None:
    pending = PendingOffsets()
    pending.commit(FIRST, {A0: committed(1)})
    pending.commit(FIRST, {A0: committed(5)})
    pending.commit(SECOND, {A0: committed(6)})
    assert pending.take(FIRST) == ({pending_key(FIRST, A0): None}, {A0: committed(5)})
    assert pending.take(FIRST) == ({}, {})
    assert A0 in pending
    assert len(pending) == 1
    pending.take(SECOND)
    assert len(pending) == 0
    assert A0 not in pending


def test_superseding_forgets_what_is_older_only() -> None:
    pending = PendingOffsets()
    pending.commit(FIRST, {A0: committed(1), A1: committed(1)})
    pending.commit(SECOND, {A0: committed(2)})
    ((_, order),) = pending.orders(SECOND)
    assert pending.supersede(A0, order) == {pending_key(FIRST, A0): None}
    assert pending.supersede(A0, order) == {}
    assert pending.orders(FIRST) == [(A1, 2)]
    assert pending.supersede(A0) == {pending_key(SECOND, A0): None}
    assert pending.transactions() == [FIRST]


def test_a_cut_touches_what_lies_beyond() -> None:
    pending = PendingOffsets()
    pending.commit(FIRST, {A0: committed(4)})
    assert pending.cut(A0, 4) == {}
    assert list(pending.cut(A0, 2)) == [pending_key(FIRST, A0)]
    assert [one.committed.offset for one in pending.of(A0)] == [2]
