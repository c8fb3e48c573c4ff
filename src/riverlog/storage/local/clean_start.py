"""After a clean stop: a partition made from its checkpoint mark alone, and what is looked at later instead.

Invariants: nothing of a sealed segment is read, and of the active one only its size is asked for, but where a transaction is
open: then the batch is looked for that it began with. Each file that the mark names is there and as long as it says, else
recovery takes over and finds out what is wrong. The active segment has no indexes in memory until somebody appends to it
(`waking.py`).
Not here: the start after anything but a clean stop (`recovery.py`), which partitions there are (`opening.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from riverlog.base.ids import Offset
from riverlog.env.files import Files
from riverlog.records.checksum import crc32c
from riverlog.storage.aborted import Aborted
from riverlog.storage.format import names, producer_snapshot
from riverlog.storage.format.checkpoint import COMPACTED, PartitionMark, SegmentMark
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs
from riverlog.storage.local.partition import LocalPartition, Place
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.transaction_files import count_aborted, place_open, read_all
from riverlog.storage.local.transactions import transactions_of

if TYPE_CHECKING:
    from riverlog.storage.local.engine import LocalEngine

log = logging.getLogger(__name__)

tidied_together_max: Final = 256  # partitions whose directories one turn of the thread looks through


def start_clean(partition: LocalPartition, mark: PartitionMark) -> bool:
    """Fills in a partition whose directory is there. False: the mark does not say enough, or the files are not what it
    says, and nothing was done. Raises OSError."""
    if (active := mark.active) is None or mark.recovery_offset < mark.recovery_segment:
        return False
    files, directory = partition.world.files, partition.directory
    last = Segment(directory, mark.recovery_segment, active.created_ms)
    now_ms = partition.world.clock.now_ms()
    segments = [sealed_segment(directory, known, now_ms) for known in mark.segments]
    try:
        if files.size(last.log_path) != mark.recovery_position:
            return False
        if any(files.size(segment.log_path) < segment.size for segment in segments):
            return False
        compacted = mark.cleaned_offset or any(known.flags & COMPACTED for known in mark.segments)
        if partition.config.cleanup_compact or compacted:
            if files.exists(f"{directory}/{names.SWAP}"):
                return False
        epochs = read_epochs(files, partition, mark)
        aborted = read_all(files, directory, mark, [segment.base_offset for segment in (*segments, last)])
        if mark.has_snapshot:
            name = names.segment_file_name(mark.recovery_offset, names.SNAPSHOT)
            snapshot = producer_snapshot.decode(files.read(f"{directory}/{name}"))
            partition.producers.restore(snapshot, mark.recovery_offset)
            partition.snapshot_offsets = [mark.recovery_offset]
    except (FileNotFoundError, FormatError):
        partition.producers.clear()
        return False
    last.size = mark.recovery_position
    last.next_offset = mark.recovery_offset
    last.first_timestamp = active.first_timestamp
    last.max_timestamp, last.max_timestamp_offset = active.max_timestamp, active.max_timestamp_offset
    last.bytes_since_entry = active.bytes_since_entry
    if not last.size:
        last.start_indexes()
    segments.append(last)
    partition.made = True
    partition.segments = segments
    partition.bases = [segment.base_offset for segment in segments]
    partition.log_start = max(mark.log_start, segments[0].base_offset)
    partition.log_end = mark.recovery_offset
    partition.cleaned_offset = mark.cleaned_offset
    partition.epochs = epochs
    if mark.recovery_offset == 0:
        partition.unsynced_names = 2  # no record was ever synced there: a commit of the first one makes them durable
    partition.producers.next_offset = mark.recovery_offset
    partition.durable = partition.synced = partition.high = partition.tail = Place(partition.log_end, last, last.size)
    if aborted:
        transactions_of(partition).aborted = Aborted(aborted)
        count_aborted(partition, segments)
        for segment in segments:
            segment.saved_aborted = segment.aborted
    place_open(partition)
    return True


def sealed_segment(directory: str, known: SegmentMark, now_ms: int) -> Segment:
    """As its mark has it."""
    segment = Segment(directory, known.base_offset, known.created_ms or now_ms)
    segment.size = known.size
    segment.next_offset = Offset(known.last_offset + 1)
    segment.max_timestamp = known.max_timestamp_ms
    offset = known.max_timestamp_offset
    segment.max_timestamp_offset = offset if offset >= 0 else known.last_offset
    segment.compacted = bool(known.flags & COMPACTED)
    segment.checksums = known.checksums
    segment.saved = True
    return segment


def read_epochs(files: Files, partition: LocalPartition, mark: PartitionMark) -> LeaderEpochs:
    """The file is read where its checksum does not give away that it has one line. Raises FileNotFoundError and
    FormatError where the file is not to be had, or not whole."""
    noted = mark.file_checksums.epochs
    if noted is not None and mark.leader_epoch >= 0:
        epochs = LeaderEpochs([EpochEntry(mark.leader_epoch, Offset(0))])
        if crc32c(epochs.encode()) == noted:
            return epochs
    epochs = LeaderEpochs.decode(files.read(f"{partition.directory}/{names.LEADER_EPOCHS}"))
    if mark.leader_epoch > epochs.latest:
        epochs.assign(mark.leader_epoch, mark.recovery_offset)
    return epochs


# What a start does not wait for


async def tidy(engine: LocalEngine, partitions: Sequence[LocalPartition]) -> None:
    """Removes what retention was about to remove when the process ended."""
    for first in range(0, len(partitions), tidied_together_max):
        places = [
            (partition.directory, partition.bases[0])
            for partition in partitions[first : first + tidied_together_max]
            if partition.bases and partition.failure is None
        ]
        await engine.maintenance.run(partial(remove_leftovers, engine.files, places))


def remove_leftovers(files: Files, places: Sequence[tuple[str, int]]) -> None:
    """On a thread. Of each directory what is marked for removal, and segments that end before the first one's offset."""
    for directory, first_offset in places:
        try:
            for name in files.list(directory):
                parsed = names.parse_segment_file_name(name)
                if parsed is not None and (
                    parsed.deleted or (parsed.base_offset < first_offset and parsed.suffix != names.SNAPSHOT)
                ):
                    files.remove(f"{directory}/{name}")
        except FileNotFoundError:
            pass  # the topic was deleted meanwhile, or the file was removed by whoever had marked it
        except OSError as error:
            log.warning("%s: what is left of removed segments stays: %s", directory, error)
