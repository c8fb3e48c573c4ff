"""Batches against other people's writers and readers (aiokafka's in Cython, kafka-python's in Python), for every codec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.records.batch import check_batch, check_stored_batch, only_batch, records_of
from riverlog.records.builder import build_batch, rebuilt, recompressed, stamp, stamp_log_append_time
from riverlog.records.compression import Compression
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord, Record

DATA = st.none() | st.binary(max_size=60) | st.binary(max_size=3).map(lambda few: few * 100)
HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3)
RECORDS = st.lists(
    st.builds(NewRecord, st.integers(0, 2**45), DATA, DATA, HEADERS.map(tuple)), min_size=1, max_size=12
)
CODECS = st.sampled_from(Compression)

aiokafka = pytest.importorskip("aiokafka.record.default_records")
kafka_python = pytest.importorskip("kafka.record.default_records")


def foreign_batch(library: Any, records: Sequence[NewRecord], compression: Compression, **fields: int) -> bytes:
    producer = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1, "is_transactional": 0} | fields
    builder = library.DefaultRecordBatchBuilder(
        magic=2, compression_type=int(compression), batch_size=1 << 20, **producer
    )
    for offset, record in enumerate(records):
        headers = [tuple(header) for header in record.headers]
        assert builder.append(offset, record.timestamp_ms, record.key, record.value, headers) is not None
    return bytes(builder.build())


def plain(records: Sequence[NewRecord | Record]) -> list[tuple[object, ...]]:
    return [
        (record.timestamp_ms, record.key, record.value, [tuple(header) for header in record.headers])
        for record in records
    ]


def foreign_plain(library: Any, batch: bytes) -> list[tuple[object, ...]]:
    read = library.DefaultRecordBatch(batch)
    assert read.validate_crc()
    return [
        (record.timestamp, record.key, record.value, [tuple(header) for header in record.headers]) for record in read
    ]


@given(records=RECORDS, compression=CODECS, producer=st.booleans())
@settings(derandomize=True, max_examples=120, deadline=None)
def test_we_read_what_aiokafka_writes(records: list[NewRecord], compression: Compression, producer: bool) -> None:
    fields = {"producer_id": 7, "producer_epoch": 2, "base_sequence": 9, "is_transactional": 1} if producer else {}
    batch = foreign_batch(aiokafka, records, compression, **fields)
    header = only_batch(batch)
    check_batch(batch, header)
    assert plain(list(records_of(batch, header))) == plain(records)
    assert (header.producer_id, header.is_transactional) == ((7, True) if producer else (-1, False))
    assert header.max_timestamp == max(record.timestamp_ms for record in records)


@given(records=RECORDS, compression=st.sampled_from([Compression.NONE, Compression.GZIP, Compression.LZ4, Compression.ZSTD]))
@settings(derandomize=True, max_examples=120, deadline=None)
def test_we_read_what_kafka_python_writes(records: list[NewRecord], compression: Compression) -> None:
    batch = foreign_batch(kafka_python, records, compression)
    header = only_batch(batch)
    check_batch(batch, header)
    assert plain(list(records_of(batch, header))) == plain(records)


@given(records=RECORDS, compression=CODECS)
@settings(derandomize=True, max_examples=120, deadline=None)
def test_others_read_what_we_write(records: list[NewRecord], compression: Compression) -> None:
    batch = bytes(build_batch(records, compression=compression, base_offset=1000))
    assert foreign_plain(aiokafka, batch) == plain(records)
    if compression is not Compression.SNAPPY:  # kafka-python wants another library for it
        assert foreign_plain(kafka_python, batch) == plain(records)


@given(records=RECORDS)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_uncompressed_batches_are_the_same_to_the_byte(records: list[NewRecord]) -> None:
    ours = build_batch(records, leader_epoch=0)
    theirs = bytearray(foreign_batch(kafka_python, records, Compression.NONE))
    stamp(theirs, 0, 0)
    assert ours == theirs


@given(records=RECORDS, first=CODECS, second=CODECS, keep=st.sets(st.integers(0, 11)), time=st.integers(0, 2**45))
@settings(derandomize=True, max_examples=120, deadline=None)
def test_changes_keep_the_rest(
    records: list[NewRecord], first: Compression, second: Compression, keep: set[int], time: int
) -> None:
    batch = build_batch(records, compression=first, base_offset=5)
    other = recompressed(batch, read_header(batch), second)
    header = read_header(other)
    check_batch(other, header)
    read = list(records_of(other, header))
    assert plain(read) == plain(records)
    kept = [record for record in read if record.offset - 5 in keep]
    thin = rebuilt(header, kept)
    check_stored_batch(thin, read_header(thin))
    assert list(records_of(thin, read_header(thin))) == kept
    late = stamp_log_append_time(other, header, time)
    check_batch(other, late)
    assert list(records_of(other, late)) == [record._replace(timestamp_ms=time) for record in read]
