"""What a start reads about transactions: the transaction indexes, and where in the files the open ones begin. Runs on a thread,
before anybody sees the partition.

Invariants: what a transaction index has of what lies before the recovery point was synced, and how much that is the checkpoint
says: a file that is gone, shorter, or not what was written is made again of the markers in the segments; behind the recovery
point no file is believed. A partition that the checkpoint says had no aborted transaction costs no look.
Not here: the batches behind the recovery point (`recovery.py`), when the files are written (`checkpoints.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset, Position
from riverlog.base.units import MIB
from riverlog.env.files import File, Files, write_file
from riverlog.records.checksum import crc32c
from riverlog.state.producers import Producers
from riverlog.storage.aborted import replay_marker
from riverlog.storage.format import names, txn_index
from riverlog.storage.format.checkpoint import ABORTED, PartitionMark, SegmentMark
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.segment import Stop, scan
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.local.reading import find_batch, load_index
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.transactions import transactions_of

if TYPE_CHECKING:
    from riverlog.storage.local.partition import LocalPartition

log = logging.getLogger(__name__)

scan_bytes: Final = MIB  # of a segment that are read at a time


def walk(
    files: Files, segments: Sequence[tuple[str, Offset, int]], producers: Producers, now_ms: int
) -> Iterator[AbortedEntry]:
    """All batches of these segments (path of the log, base offset, size) into `producers`; gives what was aborted. Raises
    OSError, Corruption."""
    for path, _, size in segments:
        file = files.open(path, writable=False)
        try:
            at, count = 0, scan_bytes
            while at < size:
                window = file.read_at(min(count, size - at), at)
                found = scan(window, Position(at), check_crc=False, allow_gaps=True)
                view = memoryview(window)
                for position, header in found.batches:
                    if header.is_control and header.producer_id >= 0:
                        batch = view[position - at : position - at + header.size]
                        if (entry := replay_marker(producers, batch, header, now_ms)) is not None:
                            yield entry
                    else:
                        producers.apply(header, Offset(header.base_offset), now_ms)
                if not found.batches and (found.stop is not Stop.TORN or count >= size - at):
                    raise Corruption(path, at, found.what)
                at, count = found.position, max(scan_bytes, found.bytes_needed)
        finally:
            file.close()


def logs_before(partition: LocalPartition, mark: PartitionMark, bases: Sequence[Offset]) -> list[tuple[str, Offset, int]]:
    """The segments up to the recovery point, as `walk` takes them."""
    sizes = {segment.base_offset: segment.size for segment in mark.segments}
    sizes[mark.recovery_segment] = mark.recovery_position
    return [
        (f"{partition.directory}/{names.segment_file_name(base_offset, names.LOG)}", base_offset, sizes[base_offset])
        for base_offset in bases
        if base_offset in sizes
    ]


# Aborted transactions


def read_sealed(files: Files, directory: str, known: SegmentMark) -> list[AbortedEntry]:
    """Raises FormatError, FileNotFoundError, OSError."""
    if not known.flags & ABORTED:
        return []
    data = files.read(f"{directory}/{names.segment_file_name(known.base_offset, names.TXN_INDEX)}")
    if known.checksums is not None and crc32c(data) != known.checksums.transactions:
        raise FormatError(0, "it is not what was written")
    return checked(txn_index.decode(data), known.base_offset, Offset(known.last_offset + 1))


def read_active(files: Files, directory: str, mark: PartitionMark) -> list[AbortedEntry]:
    """What was synced; a file may have more. Raises FormatError, FileNotFoundError, OSError."""
    count = mark.active.aborted if mark.active is not None else 0
    if not count:
        return []
    data = files.read(f"{directory}/{names.segment_file_name(mark.recovery_segment, names.TXN_INDEX)}")
    entries = txn_index.decode(data[: count * txn_index.ENTRY_BYTES])
    if len(entries) != count:
        raise FormatError(len(data), f"{len(entries)} aborted transactions, {count} were synced")
    return checked(entries, mark.recovery_segment, mark.recovery_offset)


def checked(entries: list[AbortedEntry], start: Offset, end: Offset) -> list[AbortedEntry]:
    """Raises FormatError where one is of another segment."""
    if not entries or not start <= entries[0].last_offset <= entries[-1].last_offset < end:
        raise FormatError(0, f"no aborted transactions of offsets {start} to {end - 1}")
    return entries


def read_all(files: Files, directory: str, mark: PartitionMark, bases: Sequence[Offset]) -> list[AbortedEntry]:
    """Of the segments that are there, up to the recovery point. Raises FormatError, FileNotFoundError, OSError."""
    there = set(bases)
    entries: list[AbortedEntry] = []
    for known in mark.segments:
        if known.base_offset in there and known.base_offset < mark.recovery_segment:
            entries += read_sealed(files, directory, known)
    if mark.recovery_segment in there:
        entries += read_active(files, directory, mark)
    return entries


def restore_aborted(
    partition: LocalPartition, mark: PartitionMark, bases: Sequence[Offset], now_ms: int
) -> list[Offset]:
    """Up to the recovery point. Gives the segments whose files had to be made again. Raises OSError, Corruption."""
    files, directory = partition.world.files, partition.directory
    again: list[Offset] = []
    try:
        entries = read_all(files, directory, mark, bases)
    except (FormatError, FileNotFoundError) as error:
        log.warning("%s: a transaction index is damaged (%s): all are made again", directory, error)
        logs = logs_before(partition, mark, bases)
        entries = list(walk(files, logs, Producers(), now_ms))
        again = [base_offset for _, base_offset, _ in logs]
    if entries:
        aborted = transactions_of(partition).aborted
        aborted.replace(Offset(0), mark.recovery_offset, entries)
    if again:
        write_again(partition, mark, again)
    return again


def write_again(partition: LocalPartition, mark: PartitionMark, bases: Sequence[Offset]) -> None:
    """The files of these segments, durably."""
    files, directory = partition.world.files, partition.directory
    for base_offset, end in zip(bases, [*bases[1:], mark.recovery_offset], strict=True):
        path = f"{directory}/{names.segment_file_name(base_offset, names.TXN_INDEX)}"
        entries = partition.transactions.aborted.between(base_offset, end) if partition.transactions else []
        if entries:
            write_file(files, path, txn_index.encode(entries))
        elif files.exists(path):
            files.remove(path)
    files.sync_directory(directory)


def finish_transactions(
    partition: LocalPartition, mark: PartitionMark | None, aborted: Sequence[AbortedEntry], again: Sequence[Offset]
) -> None:
    """At the end of a recovery: with what was `aborted` behind the recovery point. Raises OSError."""
    synced = mark.recovery_offset if mark is not None else Offset(0)
    if aborted:
        transactions_of(partition).aborted.replace(synced, partition.log_end, aborted)
    count_aborted(partition, partition.segments)
    for segment in partition.segments:
        if segment.base_offset in again:
            segment.checksums = None
        if partition.transactions is not None:
            segment.saved_aborted = partition.transactions.aborted.count_between(segment.base_offset, synced)
    place_open(partition)


def count_aborted(partition: LocalPartition, segments: Sequence[Segment]) -> None:
    """Into the segments' books."""
    for segment in segments:
        if partition.transactions is not None:
            aborted = partition.transactions.aborted
            segment.aborted = aborted.count_between(segment.base_offset, segment.next_offset)


def cut_file(files: Files, segment: Segment) -> str | None:
    """Takes off what the transaction index of a segment has behind what is synced of it: those transactions may not have
    ended. Gives its path where it was cut; a file that is left empty goes. Raises OSError."""
    path, size = segment.txn_index_path, segment.saved_aborted * txn_index.ENTRY_BYTES
    if not files.exists(path) or files.size(path) <= size:
        return None
    if not size:
        files.remove(path)
        return None
    file = files.open(path)
    try:
        file.truncate(size)
    finally:
        file.close()
    return path


def gather(files: Files, path: str, behind: Sequence[str], cut: int) -> None:
    """For a repair that ends a log at the offset `cut` of a segment: its index gets the entries of the segments behind it, which
    go, whose transactions began before. What they aborted stays aborted, though its marker is lost. Raises OSError."""
    entries: list[AbortedEntry] = []
    for one in (path, *behind):
        if files.exists(one):
            try:
                entries += txn_index.decode(files.read(one))
            except FormatError as error:
                log.warning("%s: what was aborted there may be seen now", error.at(one).message)
    kept = [entry for entry in entries if entry.first_offset < cut]
    if kept:
        write_file(files, path, txn_index.encode(kept))


# Open transactions


def place_open(partition: LocalPartition) -> None:
    """Finds where the open transactions begin. Raises OSError."""
    files = partition.world.files
    for offset in partition.producers.open_offsets():
        transactions = transactions_of(partition)
        if not partition.segments or offset < partition.segments[0].base_offset:
            continue  # its first records were deleted: readers begin behind them
        segment = partition.segments[partition.segment_at(offset)]
        index = segment.index or load_index(files, segment.path, segment.base_offset)
        file = files.open(segment.log_path, writable=False)
        try:
            transactions.places[offset] = place_of(file, index.lookup(offset), segment.size, offset)
        finally:
            file.close()


def place_of(file: File, start: int, size: int, offset: Offset) -> int:
    """Where the batch with that offset begins, of a segment of `size` bytes. Where that cannot be seen for damage nobody who
    reads what is committed comes further than the segment's beginning."""
    try:
        found = find_batch(file, start, size, offset)
    except FormatError:
        found = None
    return found.position if found is not None else 0
