"""The check of the journal's files in a stopped directory. Reads, never writes; not pure.

Invariant: every byte of a live record is held by a CRC, by being zero, or by standing twice. What lies behind the last record
of the walk is free space: of an earlier turn, its segments are synced, and nothing is said of it. Not here: what a start
would take from the records (`storage/local/replay.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from riverlog.storage.format import journal
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.journal import BLOCK_BYTES, HEAD_BYTES
from riverlog.storage.partition_check import Problem


def check_journal(directory: str, clean: bool) -> Iterator[Problem]:
    """`clean`: the last stop was a clean one, so that no record is needed: what is wrong in one is a note. The first block
    of each file must be right in any case."""
    newest: dict[str, int] = {}  # the highest sequence of each lane: after another stop that record may be torn
    scans: list[tuple[str, journal.Scan]] = []
    for name in journal.FILE_NAMES:
        path = os.path.join(directory, name)
        try:
            with open(path, "rb", buffering=0) as file:
                found = journal.scan(_reader(file.fileno()), os.fstat(file.fileno()).st_size)
        except FileNotFoundError:
            continue
        except FormatError as error:
            yield Problem(path, error.position, error.what)
            continue
        scans.append((path, found))
        lane = name.partition("-")[0]
        newest[lane] = max(newest.get(lane, 0), *(record.sequence for record in found.records), 0)
    for path, found in scans:
        yield from _file(path, found, clean, newest[os.path.basename(path).partition("-")[0]])


def _reader(descriptor: int) -> journal.ReadAt:
    return lambda count, position: os.pread(descriptor, count, position)


def _file(path: str, found: journal.Scan, clean: bool, newest: int) -> Iterator[Problem]:
    with open(path, "rb", buffering=0) as file:
        read = _reader(file.fileno())
        size = os.fstat(file.fileno()).st_size
        for record in found.unread:
            what = f"the front of record {record.sequence} cannot be read, its second table says what it held"
            yield Problem(path, record.position, what, clean)
        if found.unknown:
            yield Problem(path, 0, f"{found.unknown} places where a record was that cannot be read", clean)
        for record in found.records:
            data = read(record.length, record.position)
            for error in journal.defects(data, record._replace(position=0)):
                what = f"record {record.sequence}: {error.what}"
                yield Problem(path, record.position + error.position, what, clean or record.sequence == newest)
        end = found.records[-1].end if found.records else BLOCK_BYTES
        last = found.records[-1].sequence if found.records else 0
        for record in _hidden(read, end, size, found.generation, last):
            what = f"the front of record {record.sequence}, the last, cannot be read"
            yield Problem(path, record.position, what, clean or record.sequence > newest)


def _hidden(read: journal.ReadAt, start: int, size: int, generation: int, sequence: int) -> Iterator[journal.Record]:
    """A record behind the last of the walk of which the second table alone is left."""
    for end in range(start + BLOCK_BYTES, size + 1, BLOCK_BYTES):
        try:
            head = read(HEAD_BYTES, end - HEAD_BYTES)
            if head[: len(journal.RECORD_MAGIC)] != journal.RECORD_MAGIC:
                continue
            first = max(start, end - journal.data_start(int.from_bytes(head[32:36], "big")))
            record = journal.decode_end(read(end - first, first), end - first)
        except FormatError:
            continue
        if record.generation == generation and record.sequence > sequence:
            yield record._replace(position=end - record.length)
            return
