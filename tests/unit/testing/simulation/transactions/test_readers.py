"""What a consumer of committed records makes of a fetch."""

from __future__ import annotations

import pytest

from riverlog.base.ids import Offset, PartitionId, ProducerId, TopicId
from riverlog.records.builder import build_batch, end_marker, stamp
from riverlog.records.control import ControlType
from riverlog.records.record import NewRecord
from riverlog.storage.contract import AbortedTransaction, FetchedPartition, Isolation, Slices
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.transactions.ledger import Ledger, Seen
from riverlog.testing.simulation.transactions.readers import Reader, View, view

P0 = PartitionId(TopicId(b"t" * 16), 0)


def batch(producer_id: int, *values: str) -> bytearray:
    """Producer -1: of no transaction."""
    records = [NewRecord(0, None, value.encode()) for value in values]
    if producer_id < 0:
        return build_batch(records)
    return build_batch(records, producer_id=producer_id, producer_epoch=0, base_sequence=0, transactional=True)


def marker(producer_id: int, *, committed: bool) -> bytearray:
    type_ = ControlType.COMMIT if committed else ControlType.ABORT
    return end_marker(type_, producer_id=producer_id, producer_epoch=0, coordinator_epoch=0, timestamp_ms=0)


def fetched(*batches: bytearray, aborted: list[tuple[int, int]], stable: int = 100) -> FetchedPartition:
    """Each batch has one record, or its two."""
    at, data = 0, b""
    for one in batches:
        stamp(one, at, 0)
        at += int.from_bytes(one[23:27]) + 1
        data += one
    names = [AbortedTransaction(ProducerId(producer_id), Offset(first)) for producer_id, first in aborted]
    return FetchedPartition(Slices((data,), len(data)), Offset(100), Offset(stable), Offset(0), names)


def seen(partition: FetchedPartition, offset: int = 0, isolation: Isolation = Isolation.READ_COMMITTED) -> View:
    return view(P0, partition, Offset(offset), isolation)


def test_aborted_records_are_passed_over_until_their_marker() -> None:
    log = (
        batch(1, "a"),
        batch(2, "b"),
        batch(-1, "c"),
        marker(1, committed=False),
        batch(1, "d", "e"),
        marker(2, committed=True),
        marker(1, committed=True),
    )
    assert seen(fetched(*log, aborted=[(1, 0)])) == View([Seen(1, "b"), Seen(2, "c"), Seen(4, "d"), Seen(5, "e")], 8)
    assert [one.value for one in seen(fetched(*log, aborted=[])).seen] == ["a", "b", "c", "d", "e"]
    uncommitted = seen(fetched(*log, aborted=[(1, 0)]), isolation=Isolation.READ_UNCOMMITTED)
    assert [one.value for one in uncommitted.seen] == ["a", "b", "c", "d", "e"]


def test_a_transaction_is_passed_over_from_its_first_offset_on() -> None:
    log = (batch(1, "a"), marker(1, committed=True), batch(1, "b"), marker(1, committed=False))
    assert seen(fetched(*log, aborted=[(1, 2)])).seen == [Seen(0, "a")]


def test_a_reader_in_the_middle_of_a_batch_is_given_the_rest() -> None:
    assert seen(fetched(batch(-1, "a", "b"), aborted=[]), offset=1).seen == [Seen(1, "b")]


def test_nothing_is_given_from_the_last_stable_offset_on() -> None:
    with pytest.raises(Violation, match="early"):
        seen(fetched(batch(1, "a"), batch(1, "b"), aborted=[], stable=1))


def test_a_reader_was_given_what_a_fresh_one_gets() -> None:
    reader = Reader(P0, Isolation.READ_COMMITTED, Ledger())
    reader.position, reader.seen = Offset(2), [Seen(0, "a")]
    reader.check([Seen(0, "a"), Seen(2, "c")])
    for other in ([], [Seen(0, "b")], [Seen(0, "a"), Seen(1, "b")]):
        with pytest.raises(Violation, match="unstable"):
            reader.check(other)
