"""Whole batches with the CRCs of their bytes, in one call: the specification of `check_batches` in `compiled.pyx`.

Invariant: nothing outside the buffer is read. The compiled twin lets go of the GIL for as long as it looks, so a thread that
reads old data, or a recovery that needs no more than where the good bytes end, costs the loop nothing. CRC-32C is the
library's here: in plain Python it would be a hundred times slower. Not here: what a defect is called
(`storage/format/segment.py`).
"""

from __future__ import annotations

from typing import Final

from crc32c import crc32c

from riverlog.kernels.reference import BATCH_HEADER, HEADER_BYTES, INT64_MAX, MAGIC, OVERHEAD_BYTES, Buffer
from riverlog.kernels.results import Checked, WalkEnd

CRC_START: Final = 21


def check_batches(
    buffer: Buffer, position: int = 0, next_offset: int = -1, leader_epoch: int = -1, dense: bool = False
) -> Checked:
    """The good batches from `position` on, up to the first that is not whole, not good, or not where it may be: offsets
    ascend from `next_offset` on (-1: from any), where they are `dense` without the gaps that compaction leaves; leader
    epochs do not fall.

    Raises ValueError where `position` lies outside the buffer.
    """
    view = memoryview(buffer).cast("B")
    size = len(view)
    if not 0 <= position <= size:
        raise ValueError(f"position {position} lies outside a buffer of {size} bytes")
    batches = 0
    stopped = WalkEnd.END
    while left := size - position:
        if left < HEADER_BYTES:
            stopped = WalkEnd.HEADER_CUT
            break
        base_offset, length, epoch, magic, crc, _, delta, *_, count = BATCH_HEADER.unpack_from(view, position)
        if length < HEADER_BYTES - OVERHEAD_BYTES:
            stopped = WalkEnd.LENGTH
            break
        if magic != MAGIC:
            stopped = WalkEnd.MAGIC
            break
        if base_offset < max(next_offset, 0) or delta < 0 or epoch < leader_epoch or not 0 <= count <= delta + 1:
            stopped = WalkEnd.HEADER
            break
        if dense and next_offset >= 0 and base_offset != next_offset:
            stopped = WalkEnd.HEADER
            break
        if length > left - OVERHEAD_BYTES:
            stopped = WalkEnd.BATCH_CUT
            break
        end = position + OVERHEAD_BYTES + length
        if crc32c(view[position + CRC_START : end]) != crc:
            stopped = WalkEnd.CRC
            break
        position, next_offset, leader_epoch = end, min(base_offset + delta + 1, INT64_MAX), epoch
        batches += 1
    return Checked(position, stopped, next_offset, leader_epoch, batches)
