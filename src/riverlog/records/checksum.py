"""CRC-32C (Castagnoli), the checksum of record batches and of our own files. Everybody calls this one function.

`crc32c(buffer)` takes any contiguous buffer (bytes, bytearray, memoryview, writable or not) and gives an unsigned
32-bit number; `crc32c(more, crc32c(buffer))` goes on where an earlier call ended. It uses the processor's instruction
where there is one and lets go of the GIL for large buffers. It is the library's own function: a wrapper of ours would
cost as much as the checksum of a small batch.
"""

from __future__ import annotations

from crc32c import crc32c

__all__ = ["crc32c"]
