"""Whole batches, damaged: under the CRC anything is refused, and where the CRC is made right again, whatever looks inside
gives records or a `RiverlogError`, never another exception."""

from __future__ import annotations

import random

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.batch import (
    check_batch,
    first_record_at_or_after,
    max_timestamp_of,
    only_batch,
    records_of,
    unpacked_records,
)
from riverlog.records.builder import assembled, build_batch, recompressed
from riverlog.records.compression import Compression, decompress
from riverlog.records.header import HEADER_BYTES, read_header
from riverlog.records.record import NewRecord

ROUNDS = 300
SIZE_MAX = 1 << 20
REFUSALS = {ErrorKind.INVALID_RECORD, ErrorKind.CORRUPT_MESSAGE, ErrorKind.MESSAGE_TOO_LARGE}


def batch_of(chance: random.Random, compression: Compression) -> bytearray:
    records = [
        NewRecord(1000 + n, b"key %d" % n, chance.choice((None, b"some value " * n)), [("h", None)] * (n % 3))
        for n in range(chance.randrange(1, 30))
    ]
    return build_batch(records, compression=compression)


def damage(chance: random.Random, data: bytearray, start: int) -> bytearray:
    """A copy with some bytes from `start` on changed, or the end cut off."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        out[chance.randrange(start, len(out))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    if chance.random() < 0.2:
        del out[chance.randrange(start, len(out)) :]
    return out


@pytest.mark.parametrize("compression", list(Compression))
def test_damage_under_the_crc(compression: Compression) -> None:
    chance = random.Random(compression)
    for _ in range(ROUNDS):
        batch = batch_of(chance, compression)
        damaged = damage(chance, batch, 8)
        damaged[12:16] = batch[12:16]  # the leader epoch, which is not guarded
        if damaged == batch:
            continue
        with pytest.raises(RiverlogError) as caught:
            check_batch(damaged, only_batch(damaged))
        assert caught.value.kind in REFUSALS


@pytest.mark.parametrize("compression", list(Compression))
def test_signed_nonsense(compression: Compression) -> None:
    """What a broken client may send: damaged behind the header, with a right CRC."""
    chance = random.Random(100 + compression)
    kinds: set[ErrorKind] = set()
    for _ in range(ROUNDS):
        batch = damage(chance, batch_of(chance, compression), HEADER_BYTES)
        header = read_header(batch)
        section = bytes(batch[HEADER_BYTES:])
        signed = assembled(header, section)  # which takes `section` as it is
        header = read_header(signed)._replace(attributes=header.attributes)
        for look in (
            lambda b, h: list(records_of(b, h, SIZE_MAX)),
            lambda b, h: first_record_at_or_after(b, h, 1010),
            max_timestamp_of,
            lambda b, h: recompressed(b, h, Compression.LZ4, size_max=SIZE_MAX),
        ):
            try:
                look(signed, header)
            except RiverlogError as error:
                kinds.add(error.kind)
    assert kinds
    assert kinds <= REFUSALS


@pytest.mark.parametrize("compression", list(Compression)[1:])
def test_random_bytes_do_not_unpack(compression: Compression) -> None:
    chance = random.Random(200 + compression)
    heads = {
        Compression.GZIP: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        Compression.SNAPPY: b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01",
        Compression.LZ4: b"\x04\x22\x4d\x18\x60\x40\x82",
        Compression.ZSTD: b"\x28\xb5\x2f\xfd",
    }
    kinds: set[ErrorKind] = set()
    for _ in range(ROUNDS):
        data = chance.choice((b"", heads[compression])) + chance.randbytes(chance.randrange(1, 60))
        try:
            assert len(decompress(compression, data, SIZE_MAX)) <= SIZE_MAX
        except RiverlogError as error:
            kinds.add(error.kind)
    assert kinds <= REFUSALS


def test_header_of_anything() -> None:
    chance = random.Random(300)
    for _ in range(ROUNDS):
        data = bytearray(chance.randbytes(chance.randrange(120)))
        if len(data) > 16 and chance.random() < 0.8:
            data[16] = 2
        if len(data) > 12 and chance.random() < 0.5:
            data[8:12] = (len(data) - 12).to_bytes(4, "big", signed=True)
        with pytest.raises(RiverlogError) as caught:
            check_batch(data, only_batch(data))
        assert caught.value.kind in REFUSALS


def test_unpacked_records_are_those_of_the_batch_alone() -> None:
    """What follows a batch in a buffer is never part of it."""
    batch = batch_of(random.Random(1), Compression.NONE)
    header = read_header(batch)
    assert unpacked_records(batch + b"\xff" * 50, header) == batch[HEADER_BYTES:]
