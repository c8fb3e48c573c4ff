"""One segment's books, and the limit on open files."""

from __future__ import annotations

import pytest

from riverlog.base.ids import Offset
from riverlog.storage.local.segments import Descriptors, Segment
from riverlog.testing.fakes import CrashableFiles


def segments(count: int) -> tuple[CrashableFiles, list[Segment]]:
    files = CrashableFiles()
    files.make_directory("/d")
    return files, [Segment("/d", Offset(at), 0) for at in range(count)]


def test_files_of_a_segment_have_kafkas_names() -> None:
    segment = Segment("/d", Offset(170), 0)
    assert segment.log_path == "/d/00000000000000000170.log"
    assert segment.index_path == "/d/00000000000000000170.index"
    assert segment.time_index_path == "/d/00000000000000000170.timeindex"


def test_an_index_entry_is_due_when_the_interval_has_passed() -> None:
    segment = Segment("/d", Offset(10), 0)
    segment.start_indexes()
    assert segment.index is not None
    assert segment.time_index is not None
    for at in range(5):
        segment.note(Offset(11 + 2 * at), 60, 1000 + at if at != 3 else 5, 100)
    assert (segment.size, segment.next_offset, segment.first_timestamp) == (300, 20, 1000)
    assert [tuple(entry) for entry in segment.index] == [(15, 120), (19, 240)]
    assert [tuple(entry) for entry in segment.time_index] == [(1002, 15), (1004, 19)]
    segment.note(Offset(20), 60, 2000, 100)
    segment.seal_time_index()
    assert segment.time_index.last == (2000, 20)


def test_no_more_files_are_open_than_the_limit() -> None:
    files, chosen = segments(6)
    descriptors = Descriptors(files, 3)
    for segment in chosen:
        descriptors.file(segment, create=True)
    assert len(descriptors) == 3
    assert sum(segment.file is not None for segment in chosen) == 3
    descriptors.close()
    assert len(descriptors) == 0


def test_files_in_use_and_unsynced_ones_stay_open() -> None:
    files, chosen = segments(6)
    descriptors = Descriptors(files, 3)
    for segment in chosen:
        descriptors.file(segment, create=True)
    borrowed = descriptors.borrow(chosen[0])
    chosen[1].unsynced = True
    descriptors.file(chosen[1])
    for segment in chosen[2:]:
        descriptors.file(segment)
    assert chosen[0].file is borrowed
    assert chosen[1].file is not None
    assert borrowed.size() == 0


def test_where_all_are_unsynced_the_limit_holds_and_who_uses_one_keeps_it() -> None:
    files, chosen = segments(6)
    descriptors = Descriptors(files, 2)
    borrowed = None
    for segment in chosen:
        descriptors.file(segment, create=True)
        segment.unsynced = True
        borrowed = borrowed or descriptors.borrow(segment)
    assert len(descriptors) == 2
    assert chosen[0].file is borrowed


def test_a_doomed_file_is_closed_with_its_last_user() -> None:
    files, (segment,) = segments(1)
    descriptors = Descriptors(files, 2)
    descriptors.file(segment, create=True)
    first, second = descriptors.borrow(segment), descriptors.borrow(segment)
    descriptors.doom(segment)
    descriptors.give_back(segment)
    assert second.size() == 0
    descriptors.give_back(segment)
    assert segment.file is None
    with pytest.raises(OSError, match="Bad file"):
        first.size()
    with pytest.raises(AssertionError):
        descriptors.give_back(segment)
