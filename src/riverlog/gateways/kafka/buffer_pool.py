"""Buffers of a loop that wait for the next large frame, so that a connection that sends nothing holds none.

Invariant: what waits here is at most `bytes_max`, and nobody else looks into it.
"""

from __future__ import annotations

from typing import Final

from riverlog.base.units import KIB, MIB

frame_bytes_first_max: Final = MIB  # what an announced frame gets before its bytes come
pooled_buffer_bytes_min: Final = 16 * KIB
pooled_buffer_bytes_max: Final = 4 * MIB
pool_bytes_max: Final = 16 * MIB


class BufferPool:
    """Sizes are powers of two, their sum at most `bytes_max`."""

    __slots__ = ("_buffers", "bytes_max", "frame_bytes_first", "size")

    def __init__(self, bytes_max: int = pool_bytes_max) -> None:
        self.bytes_max = bytes_max
        self.frame_bytes_first = frame_bytes_first_max  # less where memory is short
        self.size = 0  # bytes that wait here
        self._buffers: dict[int, list[bytearray]] = {}

    def take(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes, with anything in it."""
        room = max(pooled_buffer_bytes_min, 1 << (size - 1).bit_length())
        if room > pooled_buffer_bytes_max:
            return bytearray(size)
        if waiting := self._buffers.get(room):
            self.size -= room
            return waiting.pop()
        return bytearray(room)

    def give(self, buffer: bytearray) -> None:
        """Takes back what `take` gave; nobody may look into it any more."""
        room = len(buffer)
        if room & (room - 1) == 0 and room <= pooled_buffer_bytes_max and self.size + room <= self.bytes_max:
            self._buffers.setdefault(room, []).append(buffer)
            self.size += room
