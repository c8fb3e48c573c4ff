"""The codecs of record batches: gzip, snappy (xerial framing and raw), lz4 frames, zstd. Bytes in, bytes out.

Invariant: nothing unpacks to more than a limit that the caller may lower, and what is cut off or damaged is an error,
never a shorter result. A library is imported when its codec is first used. What is written here is what Kafka's own
clients read: lz4 with independent blocks, snappy in xerial framing with blocks of 32 KiB.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NoReturn, TypeAlias

from riverlog.base import limits
from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.units import KIB, MIB, format_bytes

Buffer: TypeAlias = bytes | bytearray | memoryview


class Compression(IntEnum):
    """The lowest three bits of a batch's attributes; the numbers are the Kafka protocol's."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


LEVELS: Final = {
    Compression.GZIP: range(-1, 10),  # -1: the library's default; 0 stores
    Compression.LZ4: range(1, 18),
    Compression.ZSTD: range(-131072, 23),
}
frames_max: Final = 64  # of gzip, lz4 or zstd that follow one another in a batch; clients write one
snappy_ratio_max: Final = 32  # a block of snappy cannot unpack to more than 22 times its size
snappy_block_bytes: Final = 32 * KIB
lz4_step_bytes: Final = MIB  # of output at a time
zstd_step_bytes: Final = 256  # of input at a time: at worst 8 MiB come out of it before the limit is seen

XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
XERIAL_HEADER: Final = XERIAL_MAGIC + Struct(">ii").pack(1, 1)  # version, and the oldest that can read it
XERIAL_LENGTH: Final = Struct(">i")


def compression_of(attributes: int) -> Compression:
    """The codec that a batch's attributes name. Raises UNSUPPORTED_COMPRESSION where there is none of that number."""
    try:
        return Compression(attributes & 0x07)
    except ValueError:
        raise RiverlogError(
            ErrorKind.UNSUPPORTED_COMPRESSION,
            f"compression type {attributes & 0x07} is not known; use none, gzip, snappy, lz4 or zstd",
        ) from None


def compress(compression: Compression, data: Buffer, level: int | None = None) -> Buffer:
    """`data` packed; `data` itself where the codec is NONE. Raises INVALID_CONFIG for a level that the codec has
    not."""
    if level is not None and compression in LEVELS and level not in LEVELS[compression]:
        levels = LEVELS[compression]
        raise RiverlogError(
            ErrorKind.INVALID_CONFIG,
            f"{compression.name.lower()} has levels {levels.start} to {levels.stop - 1}, not {level}",
        )
    match compression:
        case Compression.NONE:
            return data
        case Compression.GZIP:
            packer = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, 31)
            return packer.compress(data) + packer.flush()
        case Compression.SNAPPY:
            return _pack_snappy(data)
        case Compression.LZ4:
            packed: bytes = _lz4_frame().compress(
                data, compression_level=level or 0, block_linked=False, store_size=False
            )
            return packed
        case Compression.ZSTD:
            import zstandard

            return zstandard.ZstdCompressor(level=3 if level is None else level).compress(data)


def decompress(compression: Compression, data: Buffer, size_max: int = limits.batch_decompressed_bytes_max) -> Buffer:
    """`data` unpacked; `data` itself where the codec is NONE, whatever its size.

    Raises MESSAGE_TOO_LARGE where it has more than `size_max` bytes, INVALID_RECORD where it is cut off or damaged.
    """
    match compression:
        case Compression.NONE:
            return data
        case Compression.GZIP:
            return _unpack_frames("gzip", _unpack_gzip, data, size_max)
        case Compression.SNAPPY:
            return _unpack_snappy(data, size_max)
        case Compression.LZ4:
            return _unpack_frames("lz4", _unpack_lz4, data, size_max)
        case Compression.ZSTD:
            return _unpack_frames("zstd", _unpack_zstd, data, size_max)


Unpack: TypeAlias = Callable[[Buffer, bytearray, int], bytes]


def _unpack_frames(codec: str, unpack: Unpack, data: Buffer, size_max: int) -> bytearray:
    """All frames of `data`. `unpack` does the first one: it appends to `out` and gives the bytes that follow it."""
    out = bytearray()
    for _ in range(frames_max):
        data = unpack(data, out, size_max)
        if not data:
            return out
    raise _damaged(codec, f"more than {frames_max} frames follow one another")


def _unpack_gzip(data: Buffer, out: bytearray, size_max: int) -> bytes:
    member = zlib.decompressobj(31)
    try:
        out += member.decompress(data, size_max - len(out) + 1)
    except zlib.error as error:
        raise _damaged("gzip", str(error)) from error
    if len(out) > size_max:
        _refuse_size("gzip", size_max)
    if not member.eof:
        raise _damaged("gzip", "it is cut off")
    return member.unused_data


def _unpack_lz4(data: Buffer, out: bytearray, size_max: int) -> bytes:
    frame = _lz4_frame().LZ4FrameDecompressor()
    given: Buffer = data
    try:
        while True:
            out += frame.decompress(given, max_length=min(lz4_step_bytes, size_max - len(out) + 1))
            if len(out) > size_max:
                _refuse_size("lz4", size_max)
            if frame.eof:
                return frame.unused_data or b""
            if frame.needs_input:
                raise _damaged("lz4", "it is cut off")
            given = b""
    except (RuntimeError, ValueError, EOFError) as error:
        raise _damaged("lz4", str(error)) from error


def _lz4_frame() -> Any:  # the library has no types
    import lz4.frame

    return lz4.frame


def _unpack_zstd(data: Buffer, out: bytearray, size_max: int) -> bytes:
    import zstandard

    try:
        stated = zstandard.frame_content_size(data)  # -1 where the frame does not say
        if stated > size_max - len(out):
            _refuse_size("zstd", size_max)
        frame = zstandard.ZstdDecompressor().decompressobj()
        with memoryview(data) as view:
            for position in range(0, len(view), zstd_step_bytes):
                out += frame.decompress(view[position : position + zstd_step_bytes])
                if len(out) > size_max:
                    _refuse_size("zstd", size_max)
                if frame.eof:
                    return frame.unused_data + bytes(view[position + zstd_step_bytes :])
    except zstandard.ZstdError as error:
        raise _damaged("zstd", str(error)) from error
    raise _damaged("zstd", "it is cut off")


def _pack_snappy(data: Buffer) -> bytes:
    from cramjam import snappy

    out = bytearray(XERIAL_HEADER)
    with memoryview(data) as view:
        for position in range(0, len(view), snappy_block_bytes):
            block = snappy.compress_raw(bytes(view[position : position + snappy_block_bytes]))
            out += XERIAL_LENGTH.pack(len(block))
            out += memoryview(block)
    return bytes(out)


def _unpack_snappy(data: Buffer, size_max: int) -> bytearray:
    out = bytearray()
    with memoryview(data) as view:
        if bytes(view[: len(XERIAL_MAGIC)]) != XERIAL_MAGIC:
            _unpack_snappy_block(view, out, size_max)
            return out
        if len(view) < len(XERIAL_HEADER):
            raise _damaged("snappy", "it is cut off")
        position = len(XERIAL_HEADER)
        while position < len(view):
            if len(view) - position < XERIAL_LENGTH.size:
                raise _damaged("snappy", "it is cut off")
            (length,) = XERIAL_LENGTH.unpack_from(view, position)
            position += XERIAL_LENGTH.size
            if length < 0 or length > len(view) - position:
                raise _damaged("snappy", f"a block says that it has {length} bytes, {len(view) - position} are left")
            _unpack_snappy_block(view[position : position + length], out, size_max)
            position += length
    return out


def _unpack_snappy_block(block: memoryview, out: bytearray, size_max: int) -> None:
    from cramjam import DecompressionError, snappy

    packed = bytes(block)
    try:
        size = snappy.decompress_raw_len(packed)
        if size > snappy_ratio_max * len(packed):  # it would be allocated before the lie shows
            raise _damaged("snappy", f"a block of {len(packed)} bytes says that it unpacks to {size}")
        if size > size_max - len(out):
            _refuse_size("snappy", size_max)
        unpacked = snappy.decompress_raw(packed)
    except DecompressionError as error:
        raise _damaged("snappy", str(error)) from error
    out += memoryview(unpacked)


def _damaged(codec: str, what: str) -> RiverlogError:
    return RiverlogError(ErrorKind.INVALID_RECORD, f"the batch's {codec} data cannot be unpacked: {what}")


def _refuse_size(codec: str, size_max: int) -> NoReturn:
    raise RiverlogError(
        ErrorKind.MESSAGE_TOO_LARGE,
        f"the batch's {codec} data unpacks to more than {format_bytes(size_max)}; send smaller batches",
    )
