"""What may be compacted, when it is due, and which segments become one."""

from __future__ import annotations

from riverlog.base.ids import Offset
from riverlog.base.units import GIB, INT32_MAX
from riverlog.storage.compaction_plan import Cleanable, SegmentFacts, group_segments, plan_compaction
from riverlog.storage.contract import LogConfig

CONFIG = LogConfig(cleanup_compact=True)


def segments(*sizes: int, newest_ms: int = 1000, oldest_ms: int = 900) -> list[SegmentFacts]:
    """Of ten offsets each."""
    return [
        SegmentFacts(Offset(10 * at), Offset(10 * at + 10), size, newest_ms + at, oldest_ms + at)
        for at, size in enumerate(sizes)
    ]


def plan(
    known: list[SegmentFacts],
    cleaned: int = 0,
    stable: int = 10**6,
    now_ms: int = 2000,
    log_start: int = 0,
    **config: float,
) -> Cleanable:
    return plan_compaction(
        known,
        cleaned_offset=Offset(cleaned),
        log_start=Offset(log_start),
        stable_offset=Offset(stable),
        now_ms=now_ms,
        config=LogConfig(cleanup_compact=True, **config),  # type: ignore[arg-type]
    )


def test_everything_is_dirty_at_first() -> None:
    found = plan(segments(100, 100, 100))
    assert found == Cleanable(Offset(0), Offset(30), 3, 0, 300, 0)
    assert (found.dirty_ratio, found.is_due(CONFIG)) == (1.0, True)


def test_what_was_compacted_counts_as_clean() -> None:
    found = plan(segments(300, 100), cleaned=10)
    assert (found.clean_bytes, found.dirty_bytes, found.dirty_ratio) == (300, 100, 0.25)
    assert not found.is_due(CONFIG)
    assert found.is_due(LogConfig(min_cleanable_dirty_ratio=0.2))
    assert plan(segments(300, 100), cleaned=20).dirty_bytes == 0
    assert not plan(segments(300, 100), cleaned=20).is_due(LogConfig(min_cleanable_dirty_ratio=0.0))


def test_a_segment_that_was_taken_in_half_is_dirty() -> None:
    assert plan(segments(300, 100), cleaned=15)[:5] == (15, 20, 2, 300, 100)


def test_the_log_start_may_have_passed_what_was_compacted() -> None:
    assert plan(segments(100, 100, 100), cleaned=5, log_start=20).first_dirty == 20


def test_nothing_past_the_last_stable_offset() -> None:
    assert plan(segments(100, 100, 100), stable=25).end == 20
    assert plan(segments(100, 100, 100), stable=9).segments == 0


def test_young_segments_and_all_behind_them_wait() -> None:
    found = plan(segments(100, 100, 100), min_compaction_lag_ms=999, now_ms=2000)
    assert (found.end, found.segments) == (20, 2)
    assert (
        plan(segments(100, 100, 100), cleaned=20, min_compaction_lag_ms=10**9).segments == 2
    )  # they are no longer new


def test_what_is_overdue_is_due_whatever_its_ratio() -> None:
    found = plan(segments(900, 10), cleaned=10, max_compaction_lag_ms=1000, now_ms=1902)
    assert found.overdue_ms == 1
    assert found.is_due(CONFIG)
    assert not plan(segments(900, 10), cleaned=10, max_compaction_lag_ms=1000, now_ms=1901).is_due(CONFIG)
    assert plan([], max_compaction_lag_ms=1).overdue_ms == 0


def test_neighbours_become_one_up_to_the_size_of_a_segment() -> None:
    known = segments(40, 40, 40, 100, 10, 10)
    config = LogConfig(segment_bytes=100, segment_index_bytes=GIB)
    assert group_segments(known, config) == [range(2), range(2, 3), range(3, 4), range(4, 6)]
    assert group_segments([], config) == []
    assert group_segments(segments(500), config) == [range(1)]


def test_an_index_must_hold_a_group() -> None:
    config = LogConfig(segment_bytes=10_000, segment_index_bytes=24, index_interval_bytes=100)
    assert group_segments(segments(100, 100, 100), config) == [range(2), range(2, 3)]


def test_a_group_is_not_wider_than_an_index() -> None:
    wide = [
        SegmentFacts(Offset(0), Offset(10), 1, 0),
        SegmentFacts(Offset(10), Offset(INT32_MAX), 1, 0),
        SegmentFacts(Offset(INT32_MAX), Offset(INT32_MAX + 1), 1, 0),
    ]
    assert group_segments(wide, CONFIG) == [range(2), range(2, 3)]
