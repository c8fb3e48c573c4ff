"""For any history: who reads a compacted log and takes the last value of each key knows what the whole log says.

Keys, tombstones, codecs, idempotent producers, transactions that end either way, clocks that jump, segments of a few
batches, maps too small for the keys, several compactions one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as some

from riverlog.base.ids import Offset, ProducerId
from riverlog.kernels import OffsetMap
from riverlog.records.batch import check_stored_batch, records_of
from riverlog.records.builder import build_batch, end_marker
from riverlog.records.compression import Compression
from riverlog.records.control import ControlType
from riverlog.records.header import BatchHeader, read_header
from riverlog.records.record import NewRecord, Record
from riverlog.state.producers import Producers
from riverlog.storage.compaction import LastOfProducers, Mapping, Thinning, Transactions
from riverlog.storage.compaction_plan import SegmentFacts, group_segments, plan_compaction
from riverlog.storage.contract import LogConfig
from riverlog.storage.format.segment import Stop, scan
from riverlog.storage.format.txn_index import AbortedEntry

CONFIG = LogConfig(
    cleanup_compact=True,
    segment_bytes=600,
    index_interval_bytes=100,
    delete_retention_ms=1000,
    min_cleanable_dirty_ratio=0.0,
)
KEYS = [b"", b"a", b"b", b"c", b"dd", b"e" * 20]


@dataclass
class Sealed:
    base_offset: int
    next_offset: int
    data: bytes


@dataclass
class Log:
    """A partition as far as compaction goes: sealed segments, what their headers told the producers' machine, and the
    transactions that were aborted. `whole` is never compacted."""

    segments: list[Sealed] = field(default_factory=list)
    active: list[bytes] = field(default_factory=list)
    active_base: int = 0
    whole: list[bytes] = field(default_factory=list)
    end: int = 0
    now_ms: int = 1_000_000
    cleaned: int = 0
    producers: Producers = field(default_factory=Producers)
    sequences: dict[int, int] = field(default_factory=dict)
    open: dict[int, int] = field(default_factory=dict)
    aborted: list[AbortedEntry] = field(default_factory=list)

    def append(self, batch: bytearray) -> None:
        header = read_header(batch)
        self.producers.apply(header, Offset(header.base_offset), self.now_ms)
        self.end = header.next_offset
        self.active.append(bytes(batch))
        self.whole.append(bytes(batch))
        if sum(map(len, self.active)) > 300:
            self.roll()

    def roll(self) -> None:
        if self.active:
            self.segments.append(Sealed(self.active_base, self.end, b"".join(self.active)))
        self.active, self.active_base = [], self.end

    def facts(self) -> list[SegmentFacts]:
        return [
            SegmentFacts(Offset(one.base_offset), Offset(one.next_offset), len(one.data), 0) for one in self.segments
        ]

    def compact(self, slots: int) -> None:
        """One pass, as a run does it."""
        stable = self.producers.last_stable_offset(Offset(self.end))
        plan = plan_compaction(
            self.facts(),
            cleaned_offset=Offset(self.cleaned),
            log_start=Offset(0),
            stable_offset=stable,
            now_ms=self.now_ms,
            config=CONFIG,
        )
        if not plan.dirty_bytes:
            return
        segments = self.segments[: plan.segments]
        start = plan.first_dirty
        mapping = Mapping(
            OffsetMap(slots, bytes(16)), start, Transactions(one for one in self.aborted if one.last_offset >= start)
        )
        for segment in segments:
            if segment.next_offset > start and not mapping.full:
                assert mapping.feed(memoryview(segment.data)) == len(segment.data) or mapping.full
        latest = mapping.latest if mapping.full else Offset(max(mapping.latest, plan.end - 1))
        assert latest >= start
        thinning = Thinning(
            mapping.map,
            latest,
            Transactions(self.aborted),
            LastOfProducers(self.producers.entries()),
            now_ms=self.now_ms,
            delete_retention_ms=CONFIG.delete_retention_ms,
            index_interval_bytes=CONFIG.index_interval_bytes,
        )
        reached = [one for one in segments if one.base_offset <= latest]
        fresh: list[Sealed] = []
        for group in group_segments(self.facts()[: len(reached)], CONFIG):
            fresh.append(thinned(reached[group.start : group.stop], thinning))
        self.segments[: len(reached)] = fresh
        self.cleaned = latest + 1
        needed = thinning.transactions.take_needed()
        self.aborted = needed + [one for one in self.aborted if one.last_offset >= fresh[-1].next_offset]

    def batches(self) -> list[tuple[BatchHeader, bytes]]:
        return batches_in(b"".join([*(one.data for one in self.segments), *self.active]))


def thinned(group: Sequence[Sealed], thinning: Thinning) -> Sealed:
    thinning.begin_group(group[-1].next_offset - 1)
    thinning.begin_segment()
    out = bytearray()
    for segment in group:
        window = memoryview(segment.data)
        while len(window):
            done = thinning.feed(window)
            assert done.taken
            out += done.data
            window = window[done.taken :]
    return Sealed(group[0].base_offset, group[-1].next_offset, bytes(out))


def batches_in(data: bytes) -> list[tuple[BatchHeader, bytes]]:
    """Each checked, offsets ascending: what the scan of recovery and of verify accepts in a compacted log."""
    found = scan(data, allow_gaps=True)
    assert found.stop is Stop.END, found.what
    batches = [(header, data[at : at + header.size]) for at, header in found.batches]
    for header, batch in batches:
        check_stored_batch(batch, header)
    return batches


def visible(batches: Sequence[tuple[BatchHeader, bytes]], aborted: Sequence[AbortedEntry]) -> list[Record]:
    """A consumer's read_committed view, by the list of aborted transactions that a fetch gives it."""
    records: list[Record] = []
    for header, batch in batches:
        if header.is_control:
            continue
        if header.is_transactional and any(
            one.producer_id == header.producer_id and one.first_offset <= header.base_offset < one.last_offset
            for one in aborted
        ):
            continue
        records += records_of(batch, header)
    return records


def last_values(records: Sequence[Record]) -> dict[bytes | None, tuple[int, bytes]]:
    known: dict[bytes | None, tuple[int, bytes]] = {}
    for record in records:
        if record.value is None:
            known.pop(record.key, None)
        elif record.key is not None:
            known[record.key] = (record.offset, record.value)
    return known


record_values = some.tuples(some.sampled_from(KEYS), some.one_of(some.none(), some.binary(max_size=30)))
steps = some.one_of(
    some.tuples(
        some.just("plain"), some.lists(record_values, min_size=1, max_size=6), some.sampled_from(list(Compression))
    ),
    some.tuples(some.just("idempotent"), some.lists(record_values, min_size=1, max_size=4), some.integers(1, 2)),
    some.tuples(some.just("transactional"), some.lists(record_values, min_size=1, max_size=4), some.integers(3, 4)),
    some.tuples(some.just("end"), some.integers(3, 4), some.booleans()),
    some.tuples(some.just("roll"), some.none(), some.none()),
    some.tuples(some.just("jump"), some.sampled_from([1, 500, 1000, 5000]), some.none()),
    some.tuples(some.just("compact"), some.sampled_from([2, 3, 5, 100]), some.none()),
)


def take(log: Log, step: tuple[object, ...]) -> None:
    match step:
        case ("plain", list(values), Compression() as codec):
            log.append(build_batch(made(values, log), base_offset=log.end, leader_epoch=0, compression=codec))
        case ("idempotent" | "transactional" as kind, list(values), int(producer_id)):
            if kind == "transactional":
                log.open.setdefault(producer_id, log.end)
            sequence = log.sequences.get(producer_id, 0)
            log.sequences[producer_id] = sequence + len(values)
            log.append(
                build_batch(
                    made(values, log),
                    base_offset=log.end,
                    leader_epoch=0,
                    producer_id=producer_id,
                    producer_epoch=0,
                    base_sequence=sequence,
                    transactional=kind == "transactional",
                )
            )
        case ("end", int(producer_id), bool(commit)):
            if (first := log.open.pop(producer_id, None)) is not None:
                if not commit:
                    log.aborted.append(
                        AbortedEntry(ProducerId(producer_id), Offset(first), Offset(log.end), Offset(first))
                    )
                log.append(
                    end_marker(
                        ControlType.COMMIT if commit else ControlType.ABORT,
                        producer_id=producer_id,
                        producer_epoch=0,
                        coordinator_epoch=0,
                        timestamp_ms=log.now_ms,
                        base_offset=log.end,
                        leader_epoch=0,
                    )
                )
        case ("roll", _, _):
            log.roll()
        case ("jump", int(milliseconds), _):
            log.now_ms += milliseconds
        case ("compact", int(slots), _):
            log.compact(slots)
        case _:
            raise AssertionError(step)


def made(values: Sequence[tuple[bytes, bytes | None]], log: Log) -> list[NewRecord]:
    return [NewRecord(log.now_ms + at, key, value) for at, (key, value) in enumerate(values)]


@settings(max_examples=300, deadline=None)
@given(some.lists(steps, max_size=60))
def test_the_last_value_of_each_key_is_that_of_the_whole_log(history: list[tuple[object, ...]]) -> None:
    log = Log()
    every_aborted: list[AbortedEntry] = []
    for step in history:
        before = len(log.aborted)
        take(log, step)
        if step[0] == "end":
            every_aborted += log.aborted[before:]
        if step[0] == "compact":
            check(log, every_aborted)
    for slots in (2, 100, 100, 3, 100):
        take(log, ("plain", [(b"filler", b"x")], Compression.NONE))
        log.roll()
        log.compact(slots)
        log.now_ms += 10_000
        check(log, every_aborted)


def check(log: Log, every_aborted: Sequence[AbortedEntry]) -> None:
    batches = log.batches()
    whole = batches_in(b"".join(log.whole))
    # an open transaction's records are behind the last stable offset: no reader is shown them
    stable = log.producers.last_stable_offset(Offset(log.end))
    committed = [one for one in visible(whole, every_aborted) if one.offset < stable]
    left = [one for one in visible(batches, log.aborted) if one.offset < stable]
    assert last_values(left) == last_values(committed)
    known = {record.offset: record for record in committed}
    assert all(known[record.offset] == record for record in left)  # offsets, times, values: as they were
    assert {header.last_offset for header, _ in batches} <= {header.last_offset for header, _ in whole}
    for segment in log.segments:
        assert batches_in(segment.data)[-1][0].next_offset == segment.next_offset
    again = Producers()
    for header, _ in batches:
        again.apply(header, Offset(header.base_offset), log.now_ms)
    for entry in log.producers.entries():
        found = again.get(entry.producer_id)
        assert found is not None
        assert found.epoch == entry.epoch
        if entry.batches:
            assert found.batches[-1] == entry.batches[-1]
        assert found.transaction_first_offset == entry.transaction_first_offset
