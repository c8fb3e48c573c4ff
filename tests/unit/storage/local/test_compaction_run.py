"""What a run keeps of a segment's books, and when it sees that nothing went."""

from __future__ import annotations

from riverlog.base.ids import Offset
from riverlog.storage.format.checkpoint import COMPACTED, Checksums, SegmentMark
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.local.cleaner import Fresh
from riverlog.storage.local.compaction_run import facts_of, is_same, made_segment
from riverlog.storage.local.segments import Segment

MARK = SegmentMark(Offset(10), 500, Offset(29), 7000, Offset(20), 6000, COMPACTED, Checksums(11, 22, 33))
FRESH = Fresh(MARK, OffsetIndex(Offset(10)), TimeIndex(Offset(10)))


def test_a_segment_from_its_mark() -> None:
    segment = made_segment("/p", FRESH)
    assert (segment.path, segment.base_offset, segment.next_offset) == ("/p/00000000000000000010", 10, 30)
    assert (segment.size, segment.max_timestamp, segment.max_timestamp_offset, segment.created_ms) == (
        500,
        7000,
        20,
        6000,
    )
    assert (segment.saved, segment.compacted, segment.checksums) == (True, True, MARK.checksums)
    assert segment.index is FRESH.offsets
    assert facts_of(segment) == (10, 30, 500, 7000, -1)


def test_a_segment_without_a_record_is_as_old_as_its_file() -> None:
    segment = made_segment(
        "/p", FRESH._replace(mark=MARK._replace(max_timestamp_ms=-1, max_timestamp_offset=Offset(-1)))
    )
    assert segment.max_timestamp_offset == 29
    assert facts_of(segment).newest_ms == 6000


def test_the_same_bytes_are_told_by_size_and_checksum() -> None:
    old = Segment("/p", Offset(10), 0)
    old.size = 500
    assert not is_same(old, FRESH)  # its checksum is not known
    old.checksums = Checksums(11, 1, 1)
    assert is_same(old, FRESH)
    old.size = 501
    assert not is_same(old, FRESH)
    old.size, old.checksums = 500, Checksums(12, 22, 33)
    assert not is_same(old, FRESH)
