"""Which segments of a partition have outlived their topic's retention. Pure: Kafka's rules over values.

Invariant: what goes is a prefix, and all of it is visible to readers of what is committed (below the last stable offset): a
transaction that is open keeps its records.
Not here: the removal (`removal.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from riverlog.storage.contract import LogConfig


class SegmentFacts(NamedTuple):
    next_offset: int
    size: int
    newest_ms: int  # the largest timestamp, else when it was made


class RetentionPlan(NamedTuple):
    """The first `doomed` segments go; `roll`: that is all of them, so a new one must be begun first."""

    doomed: int
    roll: bool


NOTHING = RetentionPlan(0, False)


def plan_retention(
    segments: Sequence[SegmentFacts], *, log_start: int, stable_offset: int, now_ms: int, config: LogConfig
) -> RetentionPlan:
    """By start offset always; by time and size where the topic's cleanup policy deletes."""
    surplus = -1
    if config.cleanup_delete and config.retention_bytes >= 0:
        surplus = sum(segment.size for segment in segments) - config.retention_bytes
    by_time = config.cleanup_delete and config.retention_ms >= 0
    doomed = 0
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment.next_offset > stable_offset or (last and segment.size == 0):
            break
        expired = by_time and now_ms - segment.newest_ms > config.retention_ms
        if segment.next_offset <= log_start:
            if last and not expired:
                break  # everything was deleted by its user: the active segment stays until it rolls
        elif not expired and surplus < segment.size:
            break
        surplus -= segment.size
        doomed += 1
    return RetentionPlan(doomed, doomed == len(segments) > 0) if doomed else NOTHING


def future_segment(left: Sequence[SegmentFacts], now_ms: int, config: LogConfig) -> SegmentFacts | None:
    """The oldest segment that is left, where only a timestamp from the future keeps it from going by time."""
    if not left or not config.cleanup_delete or config.retention_ms < 0:
        return None
    return left[0] if left[0].newest_ms > now_ms else None
