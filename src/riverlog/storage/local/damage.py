"""A bad batch that was found, by a cold read, by compaction or by the scrubber, and what readers get of it.

Invariant: what lies before the first known bad batch of a segment is served as ever, and so are the other segments and
partitions; at or behind it nothing of that segment is, until `riverlog repair` has decided. It is in memory only: a restart
finds the damage again when somebody reads there. Not here: looking for damage (`reading.py`, `scrub.py`), repairing it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset
from riverlog.storage.local.partition import LocalPartition, Place
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)


def note_damage(engine: LocalEngine, partition: LocalPartition, segment: Segment, position: int, what: str) -> None:
    """The batch at `position` of the segment is bad. Said and counted once; of a segment that has left its partition
    (removed, compacted), or of a partition that is being cut back, nothing is said."""
    known = segment.damaged_at
    if partition.failure is not None or not is_current(partition, segment) or (known is not None and known <= position):
        return
    segment.damaged_at = position
    engine.counters.damaged_batches += 1
    log.error(
        "%s is damaged: %s: %s at position %d; nothing behind that in this file can be read. Stop the broker and run "
        "riverlog repair",
        partition.name,
        segment.log_path,
        what,
        position,
    )
    engine.alarm.moved(partition)


def is_current(partition: LocalPartition, segment: Segment) -> bool:
    """Whether the segment is one of the partition's: retention, compaction and cuts take and replace them."""
    segments = partition.segments
    return bool(segments) and segments[partition.segment_at(segment.base_offset)] is segment


def readable_bytes(partition: LocalPartition, segment: Segment, end: Place | None = None) -> int:
    """What readers may see of the segment, up to its first known bad batch, and up to `end`."""
    limit = partition.visible_bytes(segment, end)
    damaged_at = segment.damaged_at
    return limit if damaged_at is None or damaged_at > limit else damaged_at


def behind_damage(partition: LocalPartition, segment: Segment, offset: Offset) -> RiverlogError | None:
    """What a reader gets for whom no batch before the damage was left. None: no damage that readers could come to."""
    damaged_at = segment.damaged_at
    if damaged_at is None or damaged_at >= partition.visible_bytes(segment):
        return None
    return RiverlogError(
        ErrorKind.STORAGE,
        f"{partition.name} cannot be read at offset {offset}: {segment.log_path} is damaged at position {damaged_at}; "
        f"records from offset {segment.next_offset} on can be read. Stop the broker and run riverlog repair",
    )
