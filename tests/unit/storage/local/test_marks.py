"""What a checkpoint says of segments and small files."""

from __future__ import annotations

from riverlog.base.ids import Offset
from riverlog.storage.format.checkpoint import ABORTED, COMPACTED, ActiveMark, Checksums, SegmentMark
from riverlog.storage.local.marks import active_mark, segment_mark
from riverlog.storage.local.segments import Segment


def segment() -> Segment:
    one = Segment("/d", Offset(10), 77)
    one.start_indexes()
    return one


def test_of_a_segment_without_records() -> None:
    one = segment()
    assert segment_mark(one) == SegmentMark(Offset(10), 0, Offset(9), -1, Offset(10), 77, 0, None)
    assert active_mark(one) == ActiveMark(77, -1, -1, Offset(10), 0)


def test_of_a_segment_with_records() -> None:
    one = segment()
    one.note(Offset(12), 100, 5000, 50)
    one.note(Offset(14), 100, 4000, 50)
    one.compacted, one.checksums = True, Checksums(1, 2, 3)
    assert segment_mark(one) == SegmentMark(Offset(10), 200, Offset(14), 5000, Offset(12), 77, COMPACTED, one.checksums)
    assert active_mark(one) == ActiveMark(77, 5000, 5000, Offset(12), 100)


def test_of_a_segment_with_aborted_transactions() -> None:
    one = segment()
    one.aborted = 3
    assert segment_mark(one).flags == ABORTED
    assert active_mark(one).aborted == 3
    one.compacted = True
    assert segment_mark(one).flags == ABORTED | COMPACTED
