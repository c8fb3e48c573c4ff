"""From a time to an offset, exact to the record: time index, then batch headers, then inside one batch. On a thread.

Invariant: only what readers may see is looked at. Not here: from an offset to bytes (`reading.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, Position
from riverlog.env.files import File, Files
from riverlog.records.batch import first_record_at_or_after, max_timestamp_of, records_of
from riverlog.records.header import HEADER_BYTES, BatchHeader, read_header
from riverlog.storage.contract import TimestampedOffset
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.names import TIME_INDEX
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.segment import Found, find_timestamp
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.local.damage import is_current
from riverlog.storage.local.partition import LocalPartition
from riverlog.storage.local.reading import further, load_index, walk_bytes
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine


class Place(NamedTuple):
    """One segment as a thread sees it; its file was borrowed."""

    segment: Segment
    file: File
    offset_index: OffsetIndex | None
    time_index: TimeIndex | None
    limit: int
    log_start: Offset


class _Replaced(Exception):
    """The segment that was searched is none of the partition's any more: compaction or retention took it meanwhile, and
    its files may be another's."""


async def offset_for_time(
    engine: LocalEngine, partition: LocalPartition, timestamp_ms: int
) -> TimestampedOffset | None:
    """The first visible record with that timestamp or a later one."""
    while True:
        try:
            return await _offset_for_time(engine, partition, timestamp_ms)
        except _Replaced:
            continue


async def offset_of_max_timestamp(engine: LocalEngine, partition: LocalPartition) -> TimestampedOffset | None:
    """The visible record with the largest timestamp; of several the first."""
    while True:
        try:
            return await _offset_of_max_timestamp(engine, partition)
        except _Replaced:
            continue


async def _offset_for_time(
    engine: LocalEngine, partition: LocalPartition, timestamp_ms: int
) -> TimestampedOffset | None:
    after = -1
    while (segment := _next_segment(partition, after, timestamp_ms)) is not None:
        after = segment.base_offset
        found = await _search(engine, partition, segment, partial(first_in_segment, timestamp_ms=timestamp_ms))
        if found is not None:
            return found
    return None


async def _offset_of_max_timestamp(engine: LocalEngine, partition: LocalPartition) -> TimestampedOffset | None:
    best: TimestampedOffset | None = None
    seen: set[int] = set()
    while True:
        chosen = [
            segment
            for segment in partition.segments
            if segment.base_offset not in seen and partition.visible_bytes(segment) and _may_beat(segment, best)
        ]
        if not chosen:
            return best
        segment = max(chosen, key=lambda one: (one.max_timestamp, -one.base_offset))
        seen.add(segment.base_offset)
        found = await _search(engine, partition, segment, newest_in_segment)
        if found is not None and (best is None or _rank(found) > _rank(best)):
            best = found


def _rank(found: TimestampedOffset) -> tuple[int, int]:
    """The largest timestamp wins; of several records that have it the first."""
    return found.timestamp_ms, -found.offset


def _may_beat(segment: Segment, best: TimestampedOffset | None) -> bool:
    """`max_timestamp` of a segment may be of a record that is not visible: then it promises too much, never too little."""
    return best is None or (segment.max_timestamp, -segment.base_offset) > _rank(best)


def _next_segment(partition: LocalPartition, after: int, timestamp_ms: int) -> Segment | None:
    for segment in partition.segments:
        if segment.base_offset > after and segment.max_timestamp >= timestamp_ms and partition.visible_bytes(segment):
            return segment
    return None


async def _search(
    engine: LocalEngine,
    partition: LocalPartition,
    segment: Segment,
    look: Callable[[Files, Place], TimestampedOffset | None],
) -> TimestampedOffset | None:
    limit = partition.visible_bytes(segment)
    try:
        file = engine.descriptors.borrow(segment)
    except OSError as error:  # its topic was deleted meanwhile, or the disk refuses
        message = f"{partition.name} could not be read: {error}"
        raise partition.failure or RiverlogError(ErrorKind.STORAGE, message) from None
    place = Place(segment, file, segment.index, segment.time_index, limit, partition.log_start)
    try:
        found = await engine.readers.run(lambda: look(engine.files, place))
    except (FormatError, RiverlogError) as error:
        if partition.failure is None and not is_current(partition, segment):
            raise _Replaced from None
        raise error.at(segment.log_path) if isinstance(error, FormatError) else error from None
    finally:
        engine.descriptors.give_back(segment)
    if partition.failure is not None:
        raise partition.failure
    if not is_current(partition, segment):
        raise _Replaced
    if found is None:
        return None
    return found._replace(leader_epoch=partition.epochs.epoch_of(found.offset))


# On a thread


def _start(files: Files, place: Place, timestamp_ms: int) -> int:
    """Where to begin to walk: no earlier batch has a record at or after that time."""
    segment = place.segment
    times, index = place.time_index, place.offset_index
    if times is None:
        try:
            times = TimeIndex.decode(files.read(segment.path + TIME_INDEX), segment.base_offset)
        except (OSError, FormatError):
            return 0  # it only saves walking
    if index is None:
        index = load_index(files, segment.path, segment.base_offset)
    start = index.lookup(max(times.lookup(timestamp_ms), place.log_start))
    return start if start < place.limit else 0


def first_in_segment(files: Files, place: Place, timestamp_ms: int) -> TimestampedOffset | None:
    """The first record at or after the time, in what is visible of one segment. Raises FormatError, RiverlogError."""
    at = _start(files, place, timestamp_ms)
    while place.limit - at >= HEADER_BYTES:
        window = place.file.read_at(min(walk_bytes, place.limit - at), at)
        found = find_timestamp(window, Position(at), timestamp_ms, place.log_start)
        if isinstance(found, Found):
            batch = place.file.read_at(found.next_position - found.position, found.position)
            header = read_header(batch)
            if (answer := first_in_batch(batch, header, timestamp_ms, place.log_start)) is not None:
                return answer
            at = found.next_position
        else:
            at = further(found, at)
    return None


def first_in_batch(batch: bytes, header: BatchHeader, timestamp_ms: int, log_start: Offset) -> TimestampedOffset | None:
    if header.is_control:
        return None
    found = first_record_at_or_after(batch, header, timestamp_ms)
    if found is None:
        return None
    offset = header.base_offset + found.offset_delta
    if offset >= log_start:
        return TimestampedOffset(Offset(offset), found.timestamp, -1)
    for record in records_of(batch, header):
        if record.offset >= log_start and record.timestamp_ms >= timestamp_ms:
            return TimestampedOffset(Offset(record.offset), record.timestamp_ms, -1)
    return None


def newest_in_segment(files: Files, place: Place) -> TimestampedOffset | None:
    """The record with the largest timestamp in what is visible of one segment, of several the first: headers first, then
    one batch. The batch that holds the log start is opened: its largest timestamp may be of a record before it."""
    best: TimestampedOffset | None = None
    whole: Position | None = None  # of the batch that has it, where only its header was looked at
    at = 0
    while place.limit - at >= HEADER_BYTES:
        window = place.file.read_at(min(walk_bytes, place.limit - at), at)
        floor = best.timestamp_ms + 1 if best is not None else -(2**63)
        found = find_timestamp(window, Position(at), floor, place.log_start)
        if not isinstance(found, Found):
            at = further(found, at)
            continue
        header = read_header(window, found.position - at)
        if header.base_offset < place.log_start:
            batch = place.file.read_at(header.size, found.position)
            best, whole = newest_in_batch(batch, header, place.log_start), None
        elif not header.is_control and header.record_count:
            best, whole = TimestampedOffset(Offset(header.base_offset), header.max_timestamp, -1), found.position
        at = found.next_position
    if whole is None:
        return best
    header = read_header(place.file.read_at(HEADER_BYTES, whole))
    return newest_in_batch(place.file.read_at(header.size, whole), header, place.log_start)


def newest_in_batch(batch: bytes, header: BatchHeader, log_start: Offset) -> TimestampedOffset | None:
    if header.is_control or not header.record_count:
        return None
    if header.base_offset >= log_start:
        newest = max_timestamp_of(batch, header)
        return newest and TimestampedOffset(Offset(header.base_offset + newest.offset_delta), newest.timestamp, -1)
    left = (record for record in records_of(batch, header) if record.offset >= log_start)
    found = max(left, key=lambda record: (record.timestamp_ms, -record.offset), default=None)
    return found and TimestampedOffset(Offset(found.offset), found.timestamp_ms, -1)
