"""Codecs: what other writers write is read, bombs and damage are refused."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import cramjam
import lz4.frame
import pytest
import zstandard

from riverlog.base import limits
from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.records.compression import (
    LEVELS,
    XERIAL_HEADER,
    Compression,
    compress,
    compression_of,
    decompress,
    frames_max,
)

DATA = b"".join(b"%d: the river goes on and on; " % n for n in range(5000))
CODECS = [Compression.GZIP, Compression.SNAPPY, Compression.LZ4, Compression.ZSTD]


def streamed_zstd(data: bytes) -> bytes:
    """As a streaming writer does it: the frame does not say how much it holds."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def xerial(*blocks: bytes) -> bytes:
    packed = [bytes(cramjam.snappy.compress_raw(block)) for block in blocks]
    return XERIAL_HEADER + b"".join(struct.pack(">i", len(block)) + block for block in packed)


FOREIGN: dict[str, tuple[Compression, Callable[[bytes], bytes]]] = {
    "gzip": (Compression.GZIP, gzip.compress),
    "gzip of two members": (Compression.GZIP, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "snappy raw": (Compression.SNAPPY, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "snappy xerial": (Compression.SNAPPY, lambda data: xerial(data[:9], data[9:])),
    "lz4 with linked blocks": (Compression.LZ4, lz4.frame.compress),
    "lz4 with content checksum": (Compression.LZ4, lambda data: lz4.frame.compress(data, content_checksum=True)),
    "lz4 of two frames": (Compression.LZ4, lambda data: lz4.frame.compress(data[:9]) + lz4.frame.compress(data[9:])),
    "zstd": (Compression.ZSTD, zstandard.ZstdCompressor(write_checksum=True).compress),
    "zstd without a content size": (Compression.ZSTD, streamed_zstd),
    "zstd of two frames": (Compression.ZSTD, lambda data: streamed_zstd(data[:9]) + streamed_zstd(data[9:])),
    "zstd by cramjam": (Compression.ZSTD, lambda data: bytes(cramjam.zstd.compress(data))),
}


def refused(compression: Compression, data: bytes, size_max: int = len(DATA)) -> ErrorKind:
    with pytest.raises(RiverlogError) as caught:
        decompress(compression, data, size_max)
    return caught.value.kind


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("data", [b"", b"a", DATA], ids=len)
def test_round_trip_of_any_buffer(compression: Compression, data: bytes) -> None:
    for given in (data, bytearray(data), memoryview(b"x" + data + b"x")[1:-1]):
        packed = compress(compression, given)
        assert bytes(decompress(compression, packed)) == data
        assert bytes(decompress(compression, memoryview(bytearray(packed)))) == data


@pytest.mark.parametrize(("compression", "pack"), FOREIGN.values(), ids=FOREIGN)
def test_what_others_write(compression: Compression, pack: Callable[[bytes], bytes]) -> None:
    assert bytes(decompress(compression, pack(DATA))) == DATA


@pytest.mark.parametrize(("compression", "pack"), FOREIGN.values(), ids=FOREIGN)
def test_the_limit_is_exact(compression: Compression, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(DATA)
    assert len(decompress(compression, packed, len(DATA))) == len(DATA)
    assert refused(compression, packed, len(DATA) - 1) is ErrorKind.MESSAGE_TOO_LARGE
    assert refused(compression, packed, 0) is ErrorKind.MESSAGE_TOO_LARGE


@pytest.mark.parametrize(("compression", "pack"), FOREIGN.values(), ids=FOREIGN)
def test_cut_off_anywhere(compression: Compression, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(DATA[:500])
    kinds = set()
    for size in range(len(packed)):
        try:
            short = bytes(decompress(compression, packed[:size]))
        except RiverlogError as error:
            kinds.add(error.kind)
        else:  # the first of two frames or blocks, or the framing of snappy without a block
            assert short == DATA[:9] or (short == b"" and compression is Compression.SNAPPY)
    assert kinds == {ErrorKind.INVALID_RECORD}


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("junk", [b"\0", b"junk that is none of it", b"\xff" * 40, XERIAL_HEADER[:10]], ids=repr)
def test_junk(compression: Compression, junk: bytes) -> None:
    if not (compression is Compression.SNAPPY and junk == b"\0"):  # which is snappy for nothing
        assert refused(compression, junk) is ErrorKind.INVALID_RECORD
    assert refused(compression, bytes(compress(compression, DATA)) + junk) in (
        ErrorKind.INVALID_RECORD,
        ErrorKind.MESSAGE_TOO_LARGE,
    )


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
def test_frames_without_end(compression: Compression) -> None:
    frame = bytes(compress(compression, b"x"))
    assert len(decompress(compression, frame * frames_max)) == frames_max
    assert refused(compression, frame * (frames_max + 1)) is ErrorKind.INVALID_RECORD


class TestBombs:
    """What is small and unpacks to much is refused before it has taken much."""

    ZEROS = bytes(64 << 20)
    LIMIT = 1 << 20

    @pytest.mark.parametrize(
        "pack",
        [
            lambda data: (Compression.GZIP, gzip.compress(data, 9)),
            lambda data: (Compression.LZ4, lz4.frame.compress(data)),
            lambda data: (Compression.ZSTD, zstandard.compress(data)),
            lambda data: (Compression.ZSTD, streamed_zstd(data)),
            lambda data: (Compression.SNAPPY, xerial(*[data[: 1 << 20]] * 64)),
            lambda data: (Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(data))),
        ],
        ids=["gzip", "lz4", "zstd", "zstd-streamed", "xerial", "snappy"],
    )
    def test_refused(self, pack: Callable[[bytes], tuple[Compression, bytes]]) -> None:
        compression, packed = pack(self.ZEROS)
        tracemalloc.start()
        try:
            assert refused(compression, packed, self.LIMIT) is ErrorKind.MESSAGE_TOO_LARGE
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 24 << 20

    def test_snappy_that_lies_about_its_size(self) -> None:
        lie = b"\xff\xff\xff\xff\x0f" + b"\0a"  # 4 GiB from two bytes
        assert refused(Compression.SNAPPY, lie, 1 << 40) is ErrorKind.INVALID_RECORD

    def test_zstd_that_lies_about_its_size(self) -> None:
        honest = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(70_000))
        size = zstandard.frame_content_size(honest)
        lie = honest.replace(struct.pack("<I", size), struct.pack("<I", 0x7FFFFFFF))
        assert lie != honest
        assert refused(Compression.ZSTD, lie, 1 << 40) is ErrorKind.INVALID_RECORD
        assert refused(Compression.ZSTD, lie, 1 << 20) is ErrorKind.MESSAGE_TOO_LARGE

    def test_there_is_a_limit_by_default(self) -> None:
        packed = zstandard.compress(bytes(limits.batch_decompressed_bytes_max + 1))
        with pytest.raises(RiverlogError, match=r"more than 128\.0 MiB"):
            decompress(Compression.ZSTD, packed)


class TestLevels:
    @pytest.mark.parametrize("compression", list(LEVELS))
    def test_the_ends_of_the_range(self, compression: Compression) -> None:
        levels = LEVELS[compression]
        for level in (levels[0], levels[-1]):
            assert bytes(decompress(compression, compress(compression, DATA, level))) == DATA
        for level in (levels.start - 1, levels.stop):
            with pytest.raises(RiverlogError) as caught:
                compress(compression, DATA, level)
            assert caught.value.kind is ErrorKind.INVALID_CONFIG

    def test_a_higher_level_packs_tighter(self) -> None:
        for compression, low, high in [(Compression.GZIP, 1, 9), (Compression.LZ4, 1, 12), (Compression.ZSTD, -50, 19)]:
            assert len(compress(compression, DATA, high)) < len(compress(compression, DATA, low))


def test_lz4_blocks_are_independent() -> None:
    """Kafka's own reader takes no others."""
    info = lz4.frame.get_frame_info(bytes(compress(Compression.LZ4, DATA)))
    assert (info["block_linked"], info["content_size"]) == (False, 0)


def test_gzip_is_the_same_each_time() -> None:
    assert bytes(compress(Compression.GZIP, b"x"))[4:8] == bytes(4)  # no time of day in it


def test_codec_of_attributes() -> None:
    assert [compression_of(0x78 | number) for number in range(5)] == list(Compression)
    for number in (5, 6, 7):
        with pytest.raises(RiverlogError) as caught:
            compression_of(number)
        assert caught.value.kind is ErrorKind.UNSUPPORTED_COMPRESSION


def test_libraries_are_imported_when_they_are_needed() -> None:
    code = (
        "import sys, riverlog.records.builder as b; "
        "print(*sorted({'lz4', 'zstandard', 'cramjam', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
