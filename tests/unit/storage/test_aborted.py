"""Aborted transactions of a partition: what overlaps a fetch, without a look at all of them; against a plain search."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.base.ids import Offset, ProducerId
from riverlog.records.builder import build_batch, end_marker
from riverlog.records.control import ControlType
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.state.producers import Producers
from riverlog.storage.aborted import Aborted, replay_marker
from riverlog.storage.contract import AbortedTransaction
from riverlog.storage.format.txn_index import AbortedEntry


def entry(producer_id: int, first: int, last: int, stable: int) -> AbortedEntry:
    return AbortedEntry(ProducerId(producer_id), Offset(first), Offset(last), Offset(stable))


def history(steps: list[tuple[int, bool]]) -> list[AbortedEntry]:
    """Each step is one offset: a producer's batch, or its marker (an abort)."""
    opened: dict[int, int] = {}
    entries: list[AbortedEntry] = []
    for offset, (producer_id, ends) in enumerate(steps):
        if not ends:
            opened.setdefault(producer_id, offset)
        elif (first := opened.pop(producer_id, None)) is not None:
            entries.append(entry(producer_id, first, offset, min(opened.values(), default=offset + 1)))
    return entries


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=40), st.integers(0, 40), st.integers(0, 20))
def test_what_overlaps_is_found(steps: list[tuple[int, bool]], start: int, count: int) -> None:
    entries = history(steps)
    end = start + count
    found = Aborted(entries).overlapping(Offset(start), Offset(end))
    expected = sorted(
        (one.first_offset, one.producer_id) for one in entries if one.last_offset >= start and one.first_offset < end
    )
    assert [(one.first_offset, one.producer_id) for one in found] == expected
    assert Aborted(entries).between(Offset(start), Offset(end)) == [
        one for one in entries if start <= one.last_offset < end
    ]
    assert Aborted(entries).count_between(Offset(start), Offset(end)) == sum(
        start <= one.last_offset < end for one in entries
    )
    assert Aborted(entries).count_between(Offset(end), Offset(start)) == 0


def test_a_look_ends_where_nothing_more_can_overlap() -> None:
    aborted = Aborted(entry(1, 2 * at, 2 * at + 1, 2 * at + 2) for at in range(1000))
    firsts = aborted._first
    looked: list[int] = []

    class Spy:
        def __getitem__(self, at: int) -> int:
            looked.append(at)
            return firsts[at]

    aborted._first = Spy()  # type: ignore[assignment]
    assert aborted.overlapping(Offset(1000), Offset(1004)) == [
        AbortedTransaction(ProducerId(1), Offset(1000)),
        AbortedTransaction(ProducerId(1), Offset(1002)),
    ]
    assert set(looked) == {500, 501}


def test_ranges_are_replaced_and_dropped() -> None:
    entries = [entry(1, 2 * at, 2 * at + 1, 2 * at + 2) for at in range(6)]
    aborted = Aborted(entries)
    aborted.replace(Offset(3), Offset(8), entries[2:3])
    everything = Offset(100)
    assert aborted.between(Offset(0), everything) == [entries[0], entries[2], *entries[4:]]
    aborted.drop_before(Offset(5))
    assert aborted.between(Offset(0), everything) == [entries[2], *entries[4:]]
    aborted.drop_before(Offset(0))
    assert len(aborted) == 3
    aborted.add(entry(1, 90, 95, 96))
    assert len(aborted) == 4


def test_a_marker_is_read_again_as_it_was_written() -> None:
    producers = Producers()
    data = build_batch(
        [NewRecord(5, None, b"x")], producer_id=7, producer_epoch=0, base_sequence=0, transactional=True
    )
    producers.apply(read_header(data), Offset(3), 5)

    def marker(type_: ControlType, base_offset: int) -> AbortedEntry | None:
        batch = end_marker(
            type_, producer_id=7, producer_epoch=0, coordinator_epoch=9, timestamp_ms=5, base_offset=base_offset
        )
        return replay_marker(producers, bytes(batch), read_header(batch), 5)

    assert marker(ControlType.ABORT, 4) == entry(7, 3, 4, 5)
    assert marker(ControlType.ABORT, 5) is None, "it held no record"
    (known,) = producers.entries()
    assert known.coordinator_epoch == 9
    producers.apply(read_header(data), Offset(6), 5)
    assert marker(ControlType.COMMIT, 7) is None
    assert producers.last_stable_offset(Offset(8)) == 8
