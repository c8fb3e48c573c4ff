"""What of a partition may be compacted, whether it is worth it, and which segments become one. Pure: Kafka's rules over values.

Invariant: what may be compacted is a prefix of sealed segments, none of which reaches past the last stable offset.
Not here: the compaction itself (`compaction.py`), reading of files, the choice among partitions (`local/compacting.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from riverlog.base.ids import Offset
from riverlog.base.units import INT32_MAX
from riverlog.storage.contract import LogConfig

BATCH_BYTES_MIN: Final = 61
INDEX_ENTRY_BYTES: Final = 12  # of the larger of the two indexes


class SegmentFacts(NamedTuple):
    """`newest_ms`: the largest timestamp, else when it was made. `oldest_ms`: the first batch's, -1 where it is not known."""

    base_offset: Offset
    next_offset: Offset
    size: int
    newest_ms: int
    oldest_ms: int = -1


class Cleanable(NamedTuple):
    """The segments before `end` may be compacted; what lies before `first_dirty` has been before."""

    first_dirty: Offset
    end: Offset
    segments: int  # that end at or before `end`
    clean_bytes: int
    dirty_bytes: int
    overdue_ms: int  # by how long max.compaction.lag.ms is over; 0: it is not

    @property
    def dirty_ratio(self) -> float:
        return self.dirty_bytes / max(1, self.clean_bytes + self.dirty_bytes)

    def is_due(self, config: LogConfig) -> bool:
        """Dirty enough, or dirty for too long."""
        if not self.dirty_bytes:
            return False
        return self.dirty_ratio > config.min_cleanable_dirty_ratio or self.overdue_ms > 0


def plan_compaction(
    segments: Sequence[SegmentFacts],
    *,
    cleaned_offset: Offset,
    log_start: Offset,
    stable_offset: Offset,
    now_ms: int,
    config: LogConfig,
) -> Cleanable:
    """Of the sealed segments, ascending. `min.compaction.lag.ms` holds back the first dirty segment that has a record
    younger than that, and all behind it; `max.compaction.lag.ms` counts from the oldest first record of a dirty segment."""
    first_dirty = max(cleaned_offset, log_start)
    count = clean_bytes = dirty_bytes = 0
    oldest = -1
    end = segments[0].base_offset if segments else first_dirty
    for segment in segments:
        dirty = segment.next_offset > first_dirty
        if segment.next_offset > stable_offset:
            break
        if dirty and config.min_compaction_lag_ms > 0 and segment.newest_ms > now_ms - config.min_compaction_lag_ms:
            break
        count += 1
        end = segment.next_offset
        if dirty:
            dirty_bytes += segment.size
            if segment.oldest_ms >= 0 and (oldest < 0 or segment.oldest_ms < oldest):
                oldest = segment.oldest_ms
        else:
            clean_bytes += segment.size
    overdue_ms = max(0, now_ms - config.max_compaction_lag_ms - oldest) if oldest >= 0 else 0
    return Cleanable(first_dirty, end, count, clean_bytes, dirty_bytes, overdue_ms)


def group_segments(segments: Sequence[SegmentFacts], config: LogConfig) -> list[range]:
    """Indexes of neighbours that become one segment: together not larger than `segment.bytes`, not more than the index
    can hold, not wider than an index' 32 bits. A segment that is too large by itself stays alone."""
    entry_every = max(config.index_interval_bytes, BATCH_BYTES_MIN)
    bytes_max = min(config.segment_bytes, INT32_MAX, config.segment_index_bytes // INDEX_ENTRY_BYTES * entry_every)
    groups: list[range] = []
    first = size = 0
    for at, segment in enumerate(segments):
        span = segment.next_offset - segments[first].base_offset
        if at > first and (size + segment.size > bytes_max or span > INT32_MAX):
            groups.append(range(first, at))
            first, size = at, 0
        size += segment.size
    if segments:
        groups.append(range(first, len(segments)))
    return groups
