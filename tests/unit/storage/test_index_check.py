"""Index entries against the batches that they are about."""

from riverlog.base.ids import Offset, Position, ProducerId
from riverlog.records.builder import build_batch, empty_batch, end_marker
from riverlog.records.control import ControlType
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.index_check import OffsetIndexCheck, TimeIndexCheck, TxnIndexCheck


def offsets_found(*entries: tuple[int, int], complete: bool = True) -> list[tuple[int, str]]:
    """Batches of 5 offsets and 100 bytes: three of them."""
    index = OffsetIndex(Offset(0))
    for offset, position in entries:
        index.append(Offset(offset), Position(position))
    check = OffsetIndexCheck()
    check.expect(index)
    for at in range(3):
        check.batch(at * 100, at * 5 + 4)
    return list(check.end(complete))


def test_right_offset_entries() -> None:
    assert offsets_found((4, 0), (9, 100), (14, 200)) == []
    assert offsets_found((14, 200)) == []
    assert offsets_found() == []


def test_wrong_offset_entries_are_named_with_their_place() -> None:
    assert offsets_found((9, 100), (13, 200)) == [
        (8, "index entry offset 13 -> position 200, whose batch ends with 14")
    ]
    assert offsets_found((9, 150), (14, 200)) == [(0, "index entry offset 9 -> position 150, where no batch begins")]
    assert offsets_found((14, 200), (19, 300)) == [(8, "index entry offset 19 -> position 300, behind the last batch")]
    assert offsets_found((14, 200), (19, 300), complete=False) == []


def times_found(*entries: tuple[int, int], complete: bool = True, sealed: bool = False) -> list[tuple[int, str]]:
    """Batches of 5 offsets with the largest timestamps 50, 40, 60."""
    index = TimeIndex(Offset(0))
    for timestamp_ms, offset in entries:
        index.append(timestamp_ms, Offset(offset))
    check = TimeIndexCheck()
    check.expect(index)
    for at, timestamp_ms in enumerate((50, 40, 60)):
        check.batch(timestamp_ms, at * 5, at * 5 + 4)
    assert check.max_timestamp == 60
    return list(check.end(complete, sealed))


def test_right_time_entries() -> None:
    assert times_found((50, 4), (60, 14), sealed=True) == []
    assert times_found((60, 14)) == []
    assert times_found() == []


def test_wrong_time_entries_are_named_with_their_place() -> None:
    assert [at for at, _ in times_found((50, 4), (61, 14))] == [12]
    assert [at for at, _ in times_found((40, 9))] == [0], "50 was before it"
    assert [at for at, _ in times_found((50, 3))] == [0], "no batch ends there"
    assert [at for at, _ in times_found((60, 14), (70, 19))] == [12]
    assert times_found((60, 14), (70, 19), complete=False) == []


def test_a_sealed_segments_last_entry_holds_its_largest_timestamp() -> None:
    assert times_found((50, 4)) == []
    assert times_found((50, 4), sealed=True) == [
        (12, "time index entry for 60, the largest of a sealed segment, is missing: it ends at 50")
    ]
    assert times_found((50, 4), sealed=True, complete=False) == []


def transactions_found(
    entries: list[AbortedEntry], *, end: int = 100, gaps: bool = False, repaired: bool = False
) -> list[tuple[int, str]]:
    """Of a log in which producer 1 aborts offset 2 with a marker at 4, and producer 2 offset 3 with one at 5."""
    check = TxnIndexCheck(0)
    check.begin()
    for offset, producer_id in ((2, 1), (3, 2)):
        data = build_batch(
            [NewRecord(5, None, b"x")],
            base_offset=offset,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=0,
            transactional=True,
        )
        check.batch(read_header(data), memoryview(data))
    for offset, producer_id in ((4, 1), (5, 2)):
        data = end_marker(
            ControlType.ABORT,
            producer_id=producer_id,
            producer_epoch=0,
            coordinator_epoch=0,
            timestamp_ms=5,
            base_offset=offset,
        )
        check.batch(read_header(data), memoryview(data))
    if repaired:
        data = bytearray(empty_batch(6, 9, 0))
        check.batch(read_header(data), memoryview(data))
    return list(check.end(entries, end, gaps))


FIRST = AbortedEntry(ProducerId(1), Offset(2), Offset(4), Offset(3))
SECOND = AbortedEntry(ProducerId(2), Offset(3), Offset(5), Offset(6))


def test_aborted_transactions_are_held_against_their_markers() -> None:
    assert transactions_found([FIRST, SECOND]) == []
    assert transactions_found([FIRST]) == [(34, "the transaction that ends at offset 5 is missing")]
    assert transactions_found([FIRST], end=5) == [], "nobody promised it yet"
    wrong = FIRST._replace(first_offset=Offset(1))
    assert transactions_found([wrong, SECOND]) == [(0, "(1, 1, 4, 3) where the batches say (1, 2, 4, 3)")]
    assert transactions_found([wrong, SECOND], gaps=True) == []
    other = FIRST._replace(producer_id=ProducerId(9))
    assert transactions_found([other, SECOND], gaps=True) == [(0, "an abort of producer 9, the marker is 1's")]
    nowhere = AbortedEntry(ProducerId(2), Offset(6), Offset(7), Offset(8))
    assert transactions_found([FIRST, SECOND, nowhere]) == [
        (68, "an abort at offset 7, where no transaction is aborted")
    ]
    assert transactions_found([FIRST, SECOND, nowhere], repaired=True) == []
