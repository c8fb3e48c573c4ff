"""Batches that Apache Kafka 4.3.1's own classes wrote (kafka-clients, `MemoryRecords.builder`), as bytes: read, and
written alike.

Two records: timestamp 1000, key "k", header "h" = null; timestamp 999, null key. Offset 7, epoch 2, producer 5 with
epoch 1 and sequence 3, transactional. The marker: offset 8, epoch 2, time 1000, commit by a coordinator of epoch 6.
"""

from __future__ import annotations

from typing import Final

import pytest

from riverlog.records.batch import check_batch, check_stored_batch, max_timestamp_of, only_batch, records_of
from riverlog.records.builder import build_batch, end_marker
from riverlog.records.compression import Compression
from riverlog.records.control import ControlType, Marker, parse_marker
from riverlog.records.record import Header, NewRecord, Record

VALUE: Final = b"value value value value value"
BATCHES: Final = {
    "none": (
        "00000000000000070000007d0000000202f4b3ba9e00100000000100000000000003e800000000000003e800000000000000"
        "05000100000003000000024e000000026b3a76616c75652076616c75652076616c75652076616c75652076616c7565020268"
        "0146000102013a76616c75652076616c75652076616c75652076616c75652076616c756500"
    ),
    "gzip": (
        "000000000000000700000060000000020282ffb99a00110000000100000000000003e800000000000003e800000000000000"
        "05000100000003000000021f8b08000000000000fff363606060cab62a4bcc294d55c04132316530ba31303231e257c60000"
        "4e13a8b54c000000"
    ),
    "snappy": (
        "00000000000000070000006600000002020548903600120000000100000000000003e800000000000003e800000000000000"
        "050001000000030000000282534e41505059000000000100000001000000214c304e000000026b3a76616c7565205a060020"
        "0202680146000102017627000000"
    ),
    "lz4": (
        "0000000000000007000000640000000202ad324c7e00130000000100000000000003e800000000000003e800000000000000"
        "050001000000030000000204224d1860408224000000df4e000000026b3a76616c7565200600049f02026801460001020127"
        "000750616c75650000000000"
    ),
    "zstd": (
        "00000000000000070000005d00000002020f5d57ef00140000000100000000000003e800000000000003e800000000000000"
        "050001000000030000000228b52ffd0058040100b84e000000026b3a76616c7565200202680146000102010002004a8947ea"
        "f205010000"
    ),
}
MARKER: Final = bytes.fromhex(
    "0000000000000008000000420000000202fa56259a00300000000000000000000003e800000000000003e800000000000000"
    "050001ffffffff000000012000000008000000010c00000000000600"
)


@pytest.mark.parametrize("codec", BATCHES)
def test_read(codec: str) -> None:
    batch = bytes.fromhex(BATCHES[codec])
    header = only_batch(batch)
    check_batch(batch, header)
    assert header.compression == Compression[codec.upper()]
    assert header.is_transactional
    assert (header.leader_epoch, header.producer_id, header.producer_epoch, header.base_sequence) == (2, 5, 1, 3)
    assert list(records_of(batch, header)) == [
        Record(7, 1000, b"k", VALUE, (Header("h", None),)),
        Record(8, 999, None, VALUE),
    ]
    assert max_timestamp_of(batch, header) == (0, 1000)


def test_written_alike() -> None:
    """What no codec has a say in is the same to the byte."""
    batch = build_batch(
        [NewRecord(1000, b"k", VALUE, [("h", None)]), NewRecord(999, None, VALUE)],
        base_offset=7,
        leader_epoch=2,
        producer_id=5,
        producer_epoch=1,
        base_sequence=3,
        transactional=True,
    )
    assert batch.hex() == BATCHES["none"]


def test_marker() -> None:
    header = only_batch(MARKER)
    check_stored_batch(MARKER, header)
    (record,) = records_of(MARKER, header)
    assert parse_marker(record.key, record.value) == Marker(ControlType.COMMIT, 6)
    ours = end_marker(
        ControlType.COMMIT,
        producer_id=5,
        producer_epoch=1,
        coordinator_epoch=6,
        timestamp_ms=1000,
        base_offset=8,
        leader_epoch=2,
    )
    assert ours == MARKER
