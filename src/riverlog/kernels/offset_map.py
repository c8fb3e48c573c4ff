"""The keys of a log in bounded memory: `OffsetMap`, its keyed hash, and the checksum of batches, in plain Python. The
specification that `compiled.pyx` must agree with.

Invariant: a key takes 32 bytes whatever its length, and no two keys are taken for one another but by a chance of 2^-128 that
nobody can better. Not here: which records are put in (`thinning.py`).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from riverlog.kernels.reference import Buffer, _bytes_of

SLOT_BYTES: Final = 24  # of the compiled map: a hash of 16 bytes and an offset of 8
MASK: Final = 2**64 - 1
_WORDS: Final = Struct("<QQ")
_CRC_TABLE: Final = [0] * 256
for _byte in range(256):
    _crc = _byte
    for _ in range(8):
        _crc = _crc >> 1 ^ (0x82F63B78 if _crc & 1 else 0)
    _CRC_TABLE[_byte] = _crc


def checksum(data: Buffer) -> int:
    """CRC-32C, as `records/checksum.py` has it: here so that a window can be checked in one call."""
    crc = MASK >> 32
    table = _CRC_TABLE
    for byte in _bytes_of(data):
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ MASK >> 32


def _rotated(word: int, count: int) -> int:
    return (word << count | word >> 64 - count) & MASK


def _rounds(state: list[int], count: int) -> None:
    a, b, c, d = state
    for _ in range(count):
        a = (a + b) & MASK
        b = _rotated(b, 13) ^ a
        a = _rotated(a, 32)
        c = (c + d) & MASK
        d = _rotated(d, 16) ^ c
        a = (a + d) & MASK
        d = _rotated(d, 21) ^ a
        c = (c + b) & MASK
        b = _rotated(b, 17) ^ c
        c = _rotated(c, 32)
    state[:] = a, b, c, d


def keyed_hash(key: bytes, data: Buffer) -> tuple[int, int]:
    """SipHash-2-4 with an answer of 128 bits: who does not know `key` (16 bytes) cannot make two keys collide."""
    k0, k1 = _WORDS.unpack(key)
    data = _bytes_of(data)
    state = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D ^ 0xEE,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xEE
    _rounds(state, 4)
    low = state[0] ^ state[1] ^ state[2] ^ state[3]
    state[1] ^= 0xDD
    _rounds(state, 4)
    return low, state[0] ^ state[1] ^ state[2] ^ state[3]


class OffsetMap:
    """Key -> the largest offset that it was put with. Holds `capacity` keys in `slots` slots of 24 bytes, three quarters
    of them: 32 bytes a key (the compiled one grows up to there, and has half as much again while it does). Keys are
    known by a keyed hash of 128 bits alone."""

    def __init__(self, slots: int, key: bytes) -> None:
        if slots < 2:
            raise ValueError(f"a map has at least 2 slots, not {slots}")
        if len(key) != 16:
            raise ValueError(f"the hash's key has 16 bytes, not {len(key)}")
        self._key = bytes(key)
        self._offsets: dict[tuple[int, int], int] = {}
        self.capacity = slots * 3 // 4

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, key: Buffer) -> int:
        """-1: it is not there."""
        return self._offsets.get(keyed_hash(self._key, key), -1)

    def put(self, key: Buffer, offset: int) -> bool:
        """False, and nothing is noted: the map is full, and the key is not in it. Raises ValueError for an offset below 0."""
        if offset < 0:
            raise ValueError(f"no offset: {offset}")
        hashed = keyed_hash(self._key, key)
        before = self._offsets.get(hashed)
        if before is None and len(self._offsets) >= self.capacity:
            return False
        if before is None or offset > before:
            self._offsets[hashed] = offset
        return True

    def clear(self) -> None:
        self._offsets.clear()
