"""Index entries against the batches that they are about."""

from riverlog.base.ids import Offset, Position
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.index_check import OffsetIndexCheck, TimeIndexCheck


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
