"""What recovery cuts off is kept: bytes behind a bad batch as a file of their own, segments behind a cut under another name.

Invariant: a copy is synced before its original is cut. Metadata that is not whole is made again. Not here: where to cut
(`recovery.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from riverlog.base.ids import Offset, TopicId
from riverlog.base.units import MIB
from riverlog.env.files import File, Files, replace_file, write_whole
from riverlog.storage.format import names, partition_metadata
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.segment import is_zero

log = logging.getLogger(__name__)

copy_bytes: Final = MIB  # at a time


def make_metadata_whole(files: Files, directory: str, topic_id: TopicId) -> None:
    """Before a record comes into a directory it says whose it is: after the next crash nobody else could tell. Raises
    OSError."""
    path = f"{directory}/{names.PARTITION_METADATA}"
    try:
        partition_metadata.decode(files.read(path))
    except (FileNotFoundError, FormatError):
        replace_file(files, path, partition_metadata.encode(topic_id))


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


def set_stale_aside(files: Files, directory: str, base_offset: Offset, now_ms: int) -> int:
    """A segment that an earlier start took away, not durably: the one before it has its offsets now. Raises OSError."""
    path = f"{directory}/{names.segment_file_name(base_offset, names.LOG)}"
    if files.size(path):
        return set_aside(files, directory, (base_offset,), now_ms)
    files.remove(path)
    remove_indexes(files, directory, base_offset)
    return 0


def remove_indexes(files: Files, directory: str, base_offset: Offset) -> None:
    """Those of one segment, as far as they are there. Raises OSError."""
    for suffix in (names.INDEX, names.TIME_INDEX, names.TXN_INDEX):
        path = f"{directory}/{names.segment_file_name(base_offset, suffix)}"
        if files.exists(path):
            files.remove(path)
