"""What recovery cuts off is kept: bytes behind a bad batch as a file of their own, segments behind a cut under another name.

Invariant: a copy is synced before its original is cut. Not here: where to cut (`recovery.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from riverlog.base.ids import Offset
from riverlog.base.units import MIB
from riverlog.env.files import File, Files, write_whole
from riverlog.storage.format import names
from riverlog.storage.format.segment import is_zero

log = logging.getLogger(__name__)

copy_bytes: Final = MIB  # at a time


def save_bytes(files: Files, file: File, start: int, end: int, path: str) -> None:
    """Copies what stands between two positions into a new file, synced; nothing but zeros was never written and is not
    kept. Raises OSError."""
    copy = files.open(path, create=True)
    try:
        position, empty = 0, True
        while start < end and (window := file.read_at(min(copy_bytes, end - start), start)):
            empty = empty and is_zero(window)
            write_whole(copy, window, position)
            position += len(window)
            start += len(window)
        copy.sync()
    finally:
        copy.close()
    if empty:
        files.remove(path)


def set_aside(files: Files, directory: str, bases: Sequence[Offset], now_ms: int) -> int:
    """Segments behind a cut: their batches have no predecessor any more. Gives how many bytes they have. Raises OSError."""
    count = 0
    for base_offset in bases:
        path = f"{directory}/{names.segment_file_name(base_offset, names.LOG)}"
        saved = f"{directory}/{names.cut_name(base_offset, now_ms)}"
        count += files.size(path)
        files.rename(path, saved)
        remove_indexes(files, directory, base_offset)
        log.warning("%s: it follows a cut and counts no more; kept as %s", path, saved)
    return count


def remove_indexes(files: Files, directory: str, base_offset: Offset) -> None:
    """Those of one segment, as far as they are there. Raises OSError."""
    for suffix in (names.INDEX, names.TIME_INDEX, names.TXN_INDEX):
        path = f"{directory}/{names.segment_file_name(base_offset, suffix)}"
        if files.exists(path):
            files.remove(path)
