"""The indexes of an active segment, which a clean start leaves on the disk: read when somebody appends, made again where they
turn out to be damaged.

Invariant: an active segment that is written has both its indexes in memory. Where its files do not give them, the segment
ends there, and a thread makes them again from its batches.
Not here: the indexes of sealed segments (`reading.py`, `checkpoints.py`), the start (`clean_start.py`).
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from riverlog.base.ids import Offset, Position
from riverlog.base.units import MIB
from riverlog.env.files import File, Files, write_file
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.segment import scan
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.local.segments import Segment

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine
    from riverlog.storage.local.partition import LocalPartition

log = logging.getLogger(__name__)

scan_bytes: Final = MIB  # of a segment that are read at a time


def wake(files: Files, segment: Segment) -> bool:
    """Reads the indexes of the active segment. False: they cannot be used. Blocks: once a segment."""
    try:
        index = OffsetIndex.decode(files.read(segment.index_path), segment.base_offset)
        times = TimeIndex.decode(files.read(segment.time_index_path), segment.base_offset)
    except (FormatError, OSError):
        return False
    last, newest = index.last, times.last
    if last is not None and (last.offset >= segment.next_offset or last.position >= segment.size):
        return False
    if segment.max_timestamp >= 0 and (newest is None or newest.timestamp_ms != segment.max_timestamp):
        return False
    segment.index, segment.time_index = index, times
    segment.saved_entries, segment.saved_times = len(index), len(times)
    return True


class Indexes(NamedTuple):
    offsets: OffsetIndex
    times: TimeIndex


def build_indexes(file: File, base_offset: Offset, size: int, interval_bytes: int) -> Indexes | None:
    """On a thread: from the headers of all batches. None: there is no batch where one should begin. Raises OSError."""
    segment = Segment("", base_offset, 0)
    segment.start_indexes()
    count = scan_bytes
    while segment.size < size:
        window = file.read_at(min(count, size - segment.size), segment.size)
        found = scan(window, Position(segment.size), check_crc=False, allow_gaps=True)
        for _, header in found.batches:
            segment.note(Offset(header.last_offset), header.size, header.max_timestamp, interval_bytes)
        if not found.batches and (count >= size - segment.size or not found.bytes_needed):
            return None
        count = max(scan_bytes, found.bytes_needed)
    segment.seal_time_index()
    assert segment.index is not None
    assert segment.time_index is not None
    return Indexes(segment.index, segment.time_index)


def make_indexes(files: Files, file: File, segment: Segment, interval_bytes: int) -> Indexes | None:
    """On a thread: as `build_indexes`, written and synced too."""
    if (found := build_indexes(file, segment.base_offset, segment.size, interval_bytes)) is not None:
        write_file(files, segment.index_path, found.offsets.encode())
        write_file(files, segment.time_index_path, found.times.encode())
        files.sync_directory(os.path.dirname(segment.path))
    return found


async def index_again(engine: LocalEngine, partition: LocalPartition, segment: Segment) -> None:
    """Of a segment that was ended because its indexes were damaged."""
    if segment is partition.segments[-1]:
        return  # no other could be begun: the next append tries again
    log.warning("%s: its indexes are damaged: it ends here, and they are made again", segment.log_path)
    interval_bytes = partition.config.index_interval_bytes
    try:
        file = engine.descriptors.borrow(segment)
        try:
            found = await engine.readers.run(partial(make_indexes, engine.files, file, segment, interval_bytes))
        finally:
            engine.descriptors.give_back(segment)
    except OSError as error:
        log.error("%s could not be indexed again: %s", segment.log_path, error)
        return
    if found is None:
        log.error("%s could not be indexed again: it does not consist of batches", segment.log_path)
    elif not segment.doomed:
        segment.time_index = found.times
        segment.saved_entries, segment.saved_times = len(found.offsets), len(found.times)
        segment.saved = True
        engine.checkpoints.loaded(segment, found.offsets)
