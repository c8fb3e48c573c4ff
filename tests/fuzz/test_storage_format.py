"""Every decoder of the data directory is total: a value or FormatError for any bytes, and what it read it writes again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.base.ids import LeaderEpoch, NodeId, Offset, PartitionId, Position, ProducerId, TopicId
from riverlog.records.checksum import crc32c
from riverlog.state.producers import BatchMark, ProducerEntry
from riverlog.storage.format import (
    checkpoint,
    lock,
    meta,
    names,
    partition_metadata,
    producer_snapshot,
    segment,
    txn_index,
)
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from tests.partition_files import make_batch, simple_records

Buffer = bytes | bytearray | memoryview
BASE = Offset(100)
MARKS = tuple(BatchMark(at, Offset(at), 0) for at in range(5))


def _offset_index() -> bytes:
    index = OffsetIndex(BASE)
    for at in range(1, 6):
        index.append(Offset(BASE + at * 10), Position(at * 4096))
    return index.encode()


def _time_index() -> bytes:
    index = TimeIndex(BASE)
    for at in range(1, 6):
        index.append(at * 1000, Offset(BASE + at * 10))
    return index.encode()


def _checkpoint() -> bytes:
    sealed = (
        checkpoint.SegmentMark(Offset(0), 10, Offset(9), 5),
        checkpoint.SegmentMark(Offset(10), 20, Offset(19), 6),
    )
    place = LeaderEpoch(1), Offset(0), Offset(25), Offset(20), Position(7)
    marks = [checkpoint.PartitionMark(PartitionId(TopicId(bytes(16)), at), *place, sealed[:at]) for at in range(3)]
    return checkpoint.encode(checkpoint.Checkpoint(True, 3, marks))


def _repair_crc(at: int | None, start: int) -> Callable[[bytes], bytes]:
    """So that damage gets past the checksum: writes it at `at` (None: the last four bytes) over what begins at `start`."""

    def repair(data: bytes) -> bytes:
        if at is None:
            return data[:-4] + crc32c(data[:-4]).to_bytes(4, "big")
        return data[:at] + crc32c(data[start:]).to_bytes(4, "big") + data[at + 4 :]

    return repair


FORMATS: dict[str, tuple[bytes, Callable[[Buffer], object], Callable[[bytes], bytes]]] = {
    "offset index": (_offset_index(), lambda data: OffsetIndex.decode(data, BASE), bytes),
    "time index": (_time_index(), lambda data: TimeIndex.decode(data, BASE), bytes),
    "transaction index": (
        txn_index.encode(
            [txn_index.AbortedEntry(ProducerId(1), Offset(at), Offset(at + 1), Offset(at)) for at in (1, 5)]
        ),
        txn_index.decode,
        bytes,
    ),
    "snapshot": (
        producer_snapshot.encode([ProducerEntry(ProducerId(at), 0, 0, -1, Offset(-1), MARKS[:at]) for at in range(6)]),
        producer_snapshot.decode,
        _repair_crc(2, 6),
    ),
    "leader epochs": (
        LeaderEpochs([EpochEntry(LeaderEpoch(at), Offset(at * 7)) for at in range(4)]).encode(),
        LeaderEpochs.decode,
        bytes,
    ),
    "partition metadata": (partition_metadata.encode(TopicId(bytes(range(16)))), partition_metadata.decode, bytes),
    "meta": (meta.encode(meta.Meta("cluster", NodeId(0), 1)), meta.decode, bytes),
    "lock": (lock.encode(lock.LockContent(1, {"kafka": "127.0.0.1:9092"})), lock.decode, bytes),
    "checkpoint": (_checkpoint(), checkpoint.decode, _repair_crc(None, 0)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_any_bytes_give_a_value_or_a_format_error(name: str) -> None:
    _, decode, _ = FORMATS[name]

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def run(data: bytes) -> None:
        total(decode, data)

    run()


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_bytes_give_a_value_or_a_format_error(name: str) -> None:
    good, decode, repair = FORMATS[name]

    @settings(derandomize=True, max_examples=300, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, len(good) - 1), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])), max_size=6),
        st.integers(0, len(good)),
        st.binary(max_size=20),
        st.booleans(),
    )
    def run(changes: list[tuple[int, int]], end: int, more: bytes, whole: bool) -> None:
        data = bytearray(good)
        for at, byte in changes:
            data[at] = byte
        damaged = bytes(data) if whole else bytes(data[:end]) + more
        total(decode, damaged)
        if len(damaged) > 10:
            total(decode, repair(damaged))

    run()


def error_of(work: Callable[[], object]) -> FormatError | None:
    try:
        work()
    except FormatError as error:
        return error
    return None


def total(decode: Callable[[Buffer], object], data: bytes) -> None:
    assert (error_of(lambda: decode(data)) is None) == (error_of(lambda: decode(memoryview(data))) is None)
    if (error := error_of(lambda: decode(data))) is not None:
        assert 0 <= error.position <= len(data)
        assert error.what


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 3), st.booleans(), st.integers(0, 30))
def test_walks_over_any_bytes_end(garbage: bytes, batches: int, check_crc: bool, offset: int) -> None:
    good = b"".join(make_batch(at * 2, simple_records(2, 1000 + at)) for at in range(batches))
    window = good + garbage
    found = segment.scan(window, Position(50), Offset(0), check_crc=check_crc)
    assert len(found.batches) >= batches
    assert 50 + len(good) <= found.position <= 50 + len(window)
    for walk in (
        lambda: segment.find_offset(window, Position(50), Offset(offset)),
        lambda: segment.find_timestamp(window, Position(50), 1000 + offset),
    ):
        if (error := error_of(walk)) is not None:
            assert error.position >= 50 + len(good)
        else:
            assert walk().position >= 50


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_names_are_parsed_or_not(name: str) -> None:
    if (parsed := names.parse_segment_file_name(name)) is not None:
        again = names.segment_file_name(parsed.base_offset, parsed.suffix) + (names.DELETED if parsed.deleted else "")
        assert again == name
    if (partition := names.parse_partition_directory_name(name)) is not None:
        assert names.partition_directory_name(*partition) == name
    if (deleted := names.parse_deleted_directory_name(name)) is not None:
        assert names.deleted_directory_name(*deleted) == name
