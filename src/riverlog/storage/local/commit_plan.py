"""How a commit makes each partition's pending bytes durable: by syncing its segments, or by the journal. Pure functions.

Invariant: every partition that is pending gets exactly one way, and ways come in the order of the partitions. What the numbers
are based on is in docs/rfcs/0002-write-the-journal-at-commit.md. Not here: whether the journal has room (`journal.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

from riverlog.base.units import KIB

run_bytes_max: Final = 256 * KIB  # of one partition: more is synced where it is
sync_us: Final = 90  # what one more file costs where several are synced at a time
journal_ns_per_byte: Final = 1.2  # copy, checksum, a second write


class Way(Enum):
    SEGMENTS = "segments"  # fdatasync of each segment that has new bytes
    JOURNAL = "journal"  # one record of all of them, and one fdatasync
    SETTLING = "settling"  # of no commit: segments are synced whose bytes the journal has


class PendingBytes(NamedTuple):
    """Of one partition: how much is not durable, and how many files a sync of its segments would touch (names of new ones
    counted in). `segments_only`: the journal must not stand in for this sync."""

    bytes: int
    files: int
    segments_only: bool = False


def plan_commit(pending: Sequence[PendingBytes], files_min: int) -> list[Way]:
    """One way for each, in order. Short runs go to the journal together, where they touch at least `files_min` files (0: never)
    and the syncs that this saves take longer than writing their bytes twice. Long runs, and what must be, are synced in
    their segments."""
    files = size = 0
    for one in pending:
        if one.bytes < run_bytes_max and not one.segments_only:
            files += one.files
            size += one.bytes
    if not files_min or files < files_min or files * sync_us * 1000 < size * journal_ns_per_byte:
        return [Way.SEGMENTS] * len(pending)
    return [
        Way.JOURNAL if one.bytes < run_bytes_max and not one.segments_only and one.files else Way.SEGMENTS
        for one in pending
    ]


def share_work(count: int, threads: int) -> list[range]:
    """`count` files over at most `threads` threads: neighbours stay together, shares differ by one at most, none is empty."""
    shares = min(count, threads)
    bounds = [count * share // shares for share in range(shares + 1)] if shares else [0]
    return [range(first, last) for first, last in pairwise(bounds)]
