"""From the files of a partition's directory to a partition that can be served. Runs on a thread, before anybody sees it.

Invariants: no byte before the recovery point is read, but where an index is missing; what is cut off is saved first; what
is kept was synced before it is served. A bad batch at or behind the recovery point is a torn write: it is cut off, and the
journal gives back what was durable. Files that end before it or are gone, batches that are bad before it, a bad batch that
good ones follow where no checkpoint tells, and what the journal alone should have and has not, are damage: the partition stays
offline, others do not notice.
Not here: which partitions there are and the leader epoch's durability (`opening.py`), the journal (`replay.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from riverlog.base.errors import Corruption, RiverlogError
from riverlog.base.ids import LeaderEpoch, Offset, Position
from riverlog.env.files import File
from riverlog.records.header import BatchHeader
from riverlog.state.producers import Producers
from riverlog.storage.aborted import replay_marker
from riverlog.storage.format import leader_epochs, names
from riverlog.storage.format.checkpoint import COMPACTED, PartitionMark
from riverlog.storage.format.segment import Stop, scan
from riverlog.storage.format.txn_index import AbortedEntry
from riverlog.storage.local.committing import sync_or_distrust
from riverlog.storage.local.holes import goes_on, refuse_gone
from riverlog.storage.local.partition import LocalPartition, Place
from riverlog.storage.local.replay import JournalRead, Replaying
from riverlog.storage.local.restoring import (
    drop_snapshots,
    load_indexes,
    read_epochs,
    restore_producers,
    scan_bytes,
)
from riverlog.storage.local.salvage import make_metadata_whole, remove_indexes, save_bytes, set_aside, set_stale_aside
from riverlog.storage.local.segments import Segment
from riverlog.storage.local.swaps import finish_swaps, is_cleaned
from riverlog.storage.local.transaction_files import cut_file, finish_transactions, restore_aborted

log = logging.getLogger(__name__)


class Recovered(NamedTuple):
    """What recovery did to one partition, for the log and the counters."""

    scanned_bytes: int = 0
    cut_bytes: int = 0
    clean: bool = True
    replayed_bytes: int = 0  # from the journal


def recover(
    partition: LocalPartition,
    mark: PartitionMark | None,
    clean: bool,
    journal: JournalRead | None = None,
) -> Recovered:
    """Fills in a partition whose directory is there. `clean`: the last stop was a clean one, and `mark` is of that
    moment. Where the files are damaged the partition is left offline (`failure`). Raises OSError."""
    try:
        return Recovery(partition, mark, clean, journal).run()
    except Corruption as error:
        partition.failure = RiverlogError(
            error.kind,
            f"{partition.name} is offline: {error.message}. This is damage and not a torn write: put back the file from a "
            "copy and start again, let `riverlog repair` cut or skip what is bad, or delete the topic",
        )
        log.error("%s", partition.failure.message)
        return Recovered(clean=False)


class Recovery:
    """One run over one partition."""

    def __init__(
        self,
        partition: LocalPartition,
        mark: PartitionMark | None,
        clean: bool,
        journal: JournalRead | None = None,
    ) -> None:
        self.partition = partition
        self.files = partition.world.files
        self.mark = mark
        self.clean = clean and mark is not None
        self.now_ms = partition.world.clock.now_ms()
        self.scanned_bytes = 0
        self.cut_bytes = 0
        self.touched: list[str] = []  # files that were scanned or cut: synced at the end
        self.removed = False  # a segment that may not come back: the next records have its offsets
        self.replaying = Replaying(self, journal) if journal is not None else None
        self.noted_epochs = leader_epochs.LeaderEpochs()  # as their file has them
        self.scanned_epoch = -1  # the highest of the batches that were read
        self.replayed_bytes = 0
        self.aborted: list[AbortedEntry] = []  # transactions, behind the recovery point
        self.indexed_again: list[Offset] = []  # segments whose transaction indexes were damaged

    def run(self) -> Recovered:
        partition = self.partition
        partition.made = True
        self.files.make_directory(partition.directory)  # the journal may have had its name too
        partition.swapped = self.files.exists(f"{partition.directory}/{names.SWAP}")
        self.mark = finish_swaps(self.files, partition.directory, self.mark, partition.id)
        bases = self._tidy()
        partition.epochs = read_epochs(self)
        self.noted_epochs.entries = list(partition.epochs.entries)
        mark = self.mark
        if mark is not None:
            partition.log_start = mark.log_start
            partition.cleaned_offset = mark.cleaned_offset
            if mark.leader_epoch > partition.epochs.latest:
                partition.epochs.assign(mark.leader_epoch, mark.recovery_offset)
        self._segments(bases)
        if self.replaying is not None:
            self.replayed_bytes = self.replaying.run()
        self._finish()
        return Recovered(self.scanned_bytes, self.cut_bytes, self.clean, self.replayed_bytes)

    def _tidy(self) -> list[Offset]:
        """Removes what waits for its removal; gives the base offsets of the segments, ascending."""
        partition, files = self.partition, self.files
        bases: list[Offset] = []
        indexed: list[tuple[Offset, str]] = []
        for name in files.list(partition.directory):
            path = f"{partition.directory}/{name}"
            parsed = names.parse_segment_file_name(name)
            if name.endswith(names.TEMPORARY) or is_cleaned(name) or (parsed is not None and parsed.deleted):
                files.remove(path)
            elif parsed is not None:
                if parsed.suffix == names.LOG:
                    bases.append(parsed.base_offset)
                elif parsed.suffix == names.SNAPSHOT:
                    partition.snapshot_offsets.append(parsed.base_offset)
                else:
                    indexed.append((parsed.base_offset, path))
        known = set(bases)
        for base_offset, path in indexed:
            if base_offset not in known:
                files.remove(path)
        make_metadata_whole(files, partition.directory, partition.id.topic_id)
        return sorted(bases)

    # Segments

    def _segments(self, bases: Sequence[Offset]) -> None:
        partition, mark = self.partition, self.mark
        sealed = {segment.base_offset: segment for segment in mark.segments} if mark is not None else {}
        active = mark.recovery_segment if mark is not None else Offset(-1)
        expected = Offset(-1)
        first = True
        if mark is not None:
            following = next((base for base in bases if base > active), mark.recovery_offset)
            dropped = active < following <= mark.log_start  # by an earlier start that came no further
            if mark.recovery_position and active not in bases and not dropped:
                raise Corruption(
                    f"{partition.directory}/{names.segment_file_name(active, names.LOG)}", 0, "the file is gone"
                )
            restore_producers(self, bases, mark.recovery_offset)
        bases = self._drop_before_start(bases)
        if mark is not None and bases and bases[0] > mark.recovery_offset:
            log.warning("%s: offset %d where %d is next", partition.directory, bases[0], mark.recovery_offset)
            self.cut_bytes += set_aside(self.files, partition.directory, bases, self.now_ms)
            self.clean = False
            bases = ()
        refuse_gone(partition.directory, sealed.values(), bases, active, partition.log_start)
        if mark is not None:
            self.indexed_again = restore_aborted(partition, mark, bases, self.now_ms)
        for at, base_offset in enumerate(bases):
            segment = Segment(partition.directory, base_offset, self.now_ms)
            known = sealed.get(base_offset)
            if not first and base_offset < expected and known is None and base_offset != active:
                self.cut_bytes += set_stale_aside(self.files, partition.directory, base_offset, self.now_ms)
                self.removed = True
                continue
            if known is not None and base_offset < active:
                if (size := self.files.size(segment.log_path)) < known.size:
                    raise Corruption(segment.log_path, size, f"the file ends, {known.size} bytes were synced")
                segment.size = known.size
                segment.next_offset = Offset(known.last_offset + 1)
                segment.max_timestamp = known.max_timestamp_ms
                segment.max_timestamp_offset = (
                    known.max_timestamp_offset if known.max_timestamp_offset >= 0 else known.last_offset
                )
                segment.created_ms = known.created_ms or self.now_ms
                segment.compacted = bool(known.flags & COMPACTED)
                segment.checksums = known.checksums
            else:
                whole = self._scan(segment, expected if not first else Offset(-1), bases[at + 1 :])
                follows = at + 1 < len(bases) and segment.size and bases[at + 1] == segment.next_offset
                if not whole and not follows:  # no batch is missing where the next segment goes on
                    if segment.size or not partition.segments:
                        self.add(segment)
                    else:
                        self._drop_empty(segment)
                    self.cut_bytes += set_aside(self.files, partition.directory, bases[at + 1 :], self.now_ms)
                    return
            first = False
            expected = segment.next_offset
            self.add(segment)

    def _drop_before_start(self, bases: Sequence[Offset]) -> Sequence[Offset]:
        """Segments that end before the log start were being removed when the process ended."""
        log_start = self.partition.log_start
        first = 0
        while first + 1 < len(bases) and bases[first + 1] <= log_start:
            self.files.remove(f"{self.partition.directory}/{names.segment_file_name(bases[first], names.LOG)}")
            remove_indexes(self.files, self.partition.directory, bases[first])
            first += 1
        return bases[first:]

    def add(self, segment: Segment) -> None:
        self.partition.segments.append(segment)
        self.partition.bases.append(segment.base_offset)

    def _scan(self, segment: Segment, expected: Offset, later: Sequence[Offset]) -> bool:
        """Takes in what is good of a segment, from the recovery point on where it holds it; cuts the rest off. False:
        something was cut, and nothing that comes after it counts. `expected` -1: any offset may come first."""
        mark = self.mark
        file = self.files.open(segment.log_path)
        try:
            size = file.size()
            segment.start_indexes()
            trusted = 0
            if mark is not None and mark.recovery_segment == segment.base_offset:
                trusted = mark.recovery_position
                if size < trusted:
                    raise Corruption(segment.log_path, size, f"the file ends, {trusted} bytes were synced")
                load_indexes(self, segment, file)
                if size == trusted == segment.size:
                    return True  # nothing came after the recovery point
            if segment.size:
                expected = segment.next_offset
            elif expected < 0 or segment.base_offset > expected:
                gap = self._may_have_gaps(segment) and (mark is None or segment.base_offset <= mark.recovery_offset)
                if expected >= 0 and trusted == 0 and not gap:
                    self._cut(segment, file, size, f"offset {segment.base_offset} where {expected} is next")
                    return False
                expected = segment.base_offset
            self.clean = False
            what = self.scan_batches(segment, file, size, expected, trusted)
            self.touched.append(segment.log_path)
            if what is None:
                return True
            if mark is None and not (later and later[0] == segment.next_offset and segment.size):
                end = segment.next_offset
                if goes_on(self.files, self.partition.directory, file, segment.size, end, later):
                    raise Corruption(segment.log_path, segment.size, f"{what}, and good batches follow")
            self._cut(segment, file, size, what)
            return False
        finally:
            file.close()

    def scan_batches(self, segment: Segment, file: File, size: int, expected: Offset, trusted: int) -> str | None:
        """From `segment.size` to the end. Gives what is wrong there, if anything."""
        mark = self.mark
        compacted = self._may_have_gaps(segment)
        next_offset: Offset | None = expected
        leader_epoch, count = -1, scan_bytes
        while segment.size < size:
            known = segment.size < trusted
            gaps = compacted and (known or not self._is_behind(segment))
            if gaps and not segment.size:
                next_offset = None
            elif mark is not None and segment.size == trusted > 0:
                next_offset = mark.recovery_offset
            limit = trusted if known else size
            window = file.read_at(min(count, limit - segment.size), segment.size)
            self.scanned_bytes += len(window)
            found = scan(window, Position(segment.size), next_offset, leader_epoch=leader_epoch, allow_gaps=gaps)
            view, start = memoryview(window), segment.size
            for position, header in found.batches:
                self._take(segment, header, view[position - start :])
            next_offset, leader_epoch = found.next_offset, found.leader_epoch
            if found.stop is Stop.END:
                count = scan_bytes
            elif found.stop is Stop.TORN and segment.size + found.bytes_needed <= limit:
                count = max(scan_bytes, found.bytes_needed)
            else:
                if segment.size < trusted:
                    raise Corruption(segment.log_path, segment.size, found.what)
                return found.what
        return None

    def _may_have_gaps(self, segment: Segment) -> bool:
        """Compaction is, or was, at work there."""
        return self.partition.config.cleanup_compact or self.partition.cleaned_offset > segment.base_offset

    def _is_behind(self, segment: Segment) -> bool:
        """No compaction can have been there: it touches nothing from the recovery segment on."""
        return self.mark is not None and segment.base_offset >= self.mark.recovery_segment

    def _take(self, segment: Segment, header: BatchHeader, window: memoryview) -> None:
        """The batch that `window` begins with."""
        partition = self.partition
        if not segment.size:
            segment.first_timestamp = header.max_timestamp
        segment.note(
            Offset(header.last_offset), header.size, header.max_timestamp, partition.config.index_interval_bytes
        )
        self.scanned_epoch = max(self.scanned_epoch, header.leader_epoch)
        if header.leader_epoch > partition.epochs.latest:
            partition.epochs.assign(LeaderEpoch(header.leader_epoch), Offset(header.base_offset))
        if self.mark is None or header.base_offset >= self.mark.recovery_offset:
            if header.producer_id < 0:
                return
            if not header.is_control:  # what came before is in the snapshot
                partition.producers.apply(header, Offset(header.base_offset), self.now_ms)
            elif aborted := replay_marker(partition.producers, window[: header.size], header, self.now_ms):
                self.aborted.append(aborted)

    # Cutting

    def _cut(self, segment: Segment, file: File, size: int, what: str) -> None:
        """Saves what stands behind the good bytes beside the segment, then cuts it off."""
        count = size - segment.size
        saved = f"{self.partition.directory}/{names.cut_name(segment.base_offset, self.now_ms)}"
        save_bytes(self.files, file, segment.size, size, saved)
        file.truncate(segment.size)
        self.cut_bytes += count
        log.warning(
            "%s: cut %d bytes at position %d (offset %d): %s; saved in %s",
            segment.log_path,
            count,
            segment.size,
            segment.next_offset,
            what,
            saved,
        )

    def _drop_empty(self, segment: Segment) -> None:
        """A segment that nothing good was found in goes, where there is another."""
        self.files.remove(segment.log_path)
        remove_indexes(self.files, self.partition.directory, segment.base_offset)
        self.touched = [path for path in self.touched if path != segment.log_path]
        self.removed = True

    # The end

    def _finish(self) -> None:
        partition, mark = self.partition, self.mark
        segments = partition.segments
        if segments:
            partition.log_start = max(partition.log_start, segments[0].base_offset)
            last = segments[-1]
            partition.log_end = last.next_offset
            if last.index is None:
                self.reopen(last)
            place = Place(partition.log_end, last, last.size)
        else:
            partition.log_end = mark.recovery_offset if mark is not None else Offset(0)
            place = Place(partition.log_end, None, 0)
        if partition.log_start > partition.log_end:
            partition.log_start = partition.log_end
        partition.durable = partition.synced = partition.high = partition.tail = place
        partition.producers.next_offset = partition.log_end
        partition.cleaned_offset = min(partition.cleaned_offset, partition.log_end)
        partition.epochs.truncate_to(Offset(partition.log_end + 1))
        partition.snapshot_offsets = drop_snapshots(self)
        if partition.log_end == 0:
            partition.unsynced_names = 2  # a commit of its first record makes them durable
        if mark is not None:
            for segment in segments:
                segment.saved = segment.base_offset < mark.recovery_segment and segment is not segments[-1]
        finish_transactions(partition, mark, self.aborted, self.indexed_again)
        for segment in segments:
            if not segment.saved and (cut := cut_file(self.files, segment)) is not None:
                self.touched.append(cut)
        unmarked = mark is None or mark.active is None  # else its mark says that all is synced
        if not self.clean and (unmarked or self.touched or self.removed):
            for path in (*self.touched, f"{partition.directory}/{names.PARTITION_METADATA}"):
                file = self.files.open(path)
                try:
                    sync_or_distrust(file)
                finally:
                    file.close()
            self.files.sync_directory(partition.directory)

    def reopen(self, last: Segment) -> None:
        """A sealed segment has become the last (the one after it was empty, or is gone): it is written again."""
        file = self.files.open(last.log_path)
        try:
            size, last.size, last.next_offset = last.size, 0, last.base_offset
            last.start_indexes()
            last.checksums = None
            mark, self.mark = self.mark, None
            producers, self.partition.producers = self.partition.producers, Producers()
            aborted, self.aborted = self.aborted, []
            what = self.scan_batches(last, file, size, last.base_offset, size)
            assert what is None, what
            self.mark, self.partition.producers, self.aborted = mark, producers, aborted
        finally:
            file.close()
