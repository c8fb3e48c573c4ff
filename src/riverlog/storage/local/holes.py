"""Telling damage from a torn write where recovery finds something missing: pure looking, nothing is changed.

Invariants: what a checkpoint names must be there; where no checkpoint says up to where a log was synced, a bad batch that
good ones follow is damage, for a torn write has nothing good behind it. Not here: what is done about it (`recovery.py`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final

from riverlog.base.errors import Corruption
from riverlog.base.ids import Offset, Position
from riverlog.base.units import INT32_MAX, MIB
from riverlog.env.files import File, Files
from riverlog.records.header import BATCH_HEADER, HEADER_BYTES, MAGIC, OVERHEAD_BYTES
from riverlog.storage.format import names
from riverlog.storage.format.checkpoint import SegmentMark
from riverlog.storage.format.segment import scan

MAGIC_AT: Final = 16  # of a batch
_MAGIC: Final = bytes([MAGIC])
look_bytes: Final = MIB  # at a time


def refuse_gone(
    directory: str, sealed: Iterable[SegmentMark], there: Container[Offset], active: Offset, log_start: Offset
) -> None:
    """Raises Corruption where a sealed segment that the checkpoint names, and that retention has not taken, is gone."""
    for segment in sealed:
        if segment.last_offset >= log_start and segment.base_offset < active and segment.base_offset not in there:
            path = f"{directory}/{names.segment_file_name(segment.base_offset, names.LOG)}"
            raise Corruption(path, 0, "the file is gone")


def goes_on(
    files: Files, directory: str, file: File, position: int, next_offset: Offset, later: Sequence[Offset]
) -> bool:
    """Whether good batches of later offsets follow what is bad at `position`: in that file, or in the segments `later`."""
    if next_good(file, position + 1, next_offset) is not None:
        return True
    for base_offset in later:
        other = files.open(f"{directory}/{names.segment_file_name(base_offset, names.LOG)}", writable=False)
        try:
            if next_good(other, 0, next_offset) is not None:
                return True
        finally:
            other.close()
    return False


def next_good(file: File, position: int, offset: Offset) -> int | None:
    """Where the first whole batch with a good CRC begins that has that base offset or a later one."""
    size = file.size()
    unpack = BATCH_HEADER.unpack_from
    while position + HEADER_BYTES <= size:
        window = file.read_at(look_bytes + HEADER_BYTES, position)
        at = window.find(_MAGIC, MAGIC_AT)
        while 0 <= at <= len(window) - HEADER_BYTES + MAGIC_AT and at < look_bytes + MAGIC_AT:
            base_offset, length, *_ = unpack(window, at - MAGIC_AT)
            start = position + at - MAGIC_AT
            if offset <= base_offset <= offset + INT32_MAX and HEADER_BYTES <= length + OVERHEAD_BYTES <= size - start:
                batch = file.read_at(length + OVERHEAD_BYTES, start)
                if scan(batch, Position(start)).batches:
                    return start
            at = window.find(_MAGIC, at + 1)
        position += look_bytes
    return None
