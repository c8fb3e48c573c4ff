"""Kafka's rules of retention, over values."""

from __future__ import annotations

import pytest

from riverlog.storage.contract import LogConfig
from riverlog.storage.local.retention import NOTHING, RetentionPlan, SegmentFacts, future_segment, plan_retention

NOW = 1_000_000
FOREVER = {"retention_ms": -1}


def plan(
    segments: list[tuple[int, int, int]], log_start: int = 0, stable_offset: int = 10**9, **config: object
) -> RetentionPlan:
    """Segments as (next offset, size, newest timestamp)."""
    facts = [SegmentFacts(*segment) for segment in segments]
    return plan_retention(
        facts,
        log_start=log_start,
        stable_offset=stable_offset,
        now_ms=NOW,
        config=LogConfig(**config),  # type: ignore[arg-type]  # names checked by the class itself
    )


def test_nothing_to_do() -> None:
    assert plan([]) == NOTHING
    assert plan([(10, 100, NOW)]) == NOTHING
    assert plan([(10, 100, 0)], **FOREVER) == NOTHING


def test_by_time_goes_a_prefix() -> None:
    segments = [(10, 100, 0), (20, 100, NOW - 50), (30, 100, 0), (40, 100, NOW)]
    assert plan(segments, retention_ms=100) == RetentionPlan(1, False)
    assert plan(segments, retention_ms=10) == RetentionPlan(3, False)


def test_when_all_is_old_the_active_segment_is_rolled_first() -> None:
    assert plan([(10, 100, 0), (20, 100, 0)], retention_ms=100) == RetentionPlan(2, True)
    assert plan([(10, 100, 0), (10, 0, 0)], retention_ms=100) == RetentionPlan(1, False)
    assert plan([(10, 0, 0)], retention_ms=100) == NOTHING


def test_by_size_what_is_over_goes() -> None:
    segments = [(10, 100, NOW), (20, 100, NOW), (30, 100, NOW)]
    assert plan(segments, retention_bytes=300) == NOTHING
    assert plan(segments, retention_bytes=250) == NOTHING  # the rest would be less than was promised
    assert plan(segments, retention_bytes=200) == RetentionPlan(1, False)
    assert plan(segments, retention_bytes=0) == RetentionPlan(3, True)


def test_by_start_offset_also_where_nothing_else_deletes() -> None:
    segments = [(10, 100, NOW), (20, 100, NOW), (30, 100, NOW)]
    assert plan(segments, log_start=10, cleanup_delete=False, cleanup_compact=True) == RetentionPlan(1, False)
    assert plan(segments, log_start=19) == RetentionPlan(1, False)
    assert plan(segments, log_start=30) == RetentionPlan(2, False)


@pytest.mark.parametrize("stable_offset", [0, 19])
def test_what_readers_have_not_seen_stays(stable_offset: int) -> None:
    segments = [(10, 100, 0), (20, 100, 0)]
    doomed = 1 if stable_offset >= 10 else 0
    assert plan(segments, stable_offset=stable_offset, retention_ms=1).doomed == doomed


def test_compacted_topics_keep_what_is_old() -> None:
    segments = [(10, 100, 0), (20, 100, 0)]
    assert plan(segments, retention_ms=1, retention_bytes=0, cleanup_delete=False, cleanup_compact=True) == NOTHING


@pytest.mark.parametrize(
    ("newest", "config", "told"),
    [
        (NOW + 1, {"retention_ms": 100}, True),
        (NOW, {"retention_ms": 100}, False),
        (NOW + 1, {"retention_ms": -1}, False),
        (NOW + 1, {"retention_ms": 100, "cleanup_delete": False, "cleanup_compact": True}, False),
    ],
)
def test_a_segment_from_the_future_is_told_of_where_it_would_go_by_time(
    newest: int, config: dict[str, int], told: bool
) -> None:
    left = [SegmentFacts(10, 100, newest), SegmentFacts(20, 100, NOW + 5)]
    assert future_segment(left, NOW, LogConfig(**config)) == (left[0] if told else None)  # type: ignore[arg-type]
    assert future_segment([], NOW, LogConfig()) is None


def test_a_segment_from_the_future_goes_by_size_and_start_and_holds_back_what_is_older() -> None:
    segments = [(10, 100, NOW + 500), (20, 100, 0), (30, 100, NOW)]
    assert plan(segments, retention_ms=100) == NOTHING
    assert plan(segments, retention_ms=100, retention_bytes=200) == RetentionPlan(2, False)
    assert plan(segments, retention_ms=100, log_start=10) == RetentionPlan(2, False)
