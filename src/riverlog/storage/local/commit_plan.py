"""How a commit makes each partition's pending bytes durable. One pure function: the place where the journal is chosen later.

Invariant: every partition that is pending gets exactly one way, and ways come in the order of the partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import NamedTuple


class Way(Enum):
    SEGMENTS = "segments"  # fdatasync of each segment that has new bytes


class PendingBytes(NamedTuple):
    """Of one partition: how much is not durable, over how many files."""

    bytes: int
    segments: int


def plan_commit(pending: Sequence[PendingBytes]) -> list[Way]:
    """One way for each, in order. Today there is one way; short runs of many partitions will go to a shared journal."""
    return [Way.SEGMENTS] * len(pending)


def share_work(count: int, threads: int) -> list[range]:
    """`count` files over at most `threads` threads: neighbours stay together, shares differ by one at most, none is empty."""
    shares = min(count, threads)
    bounds = [count * share // shares for share in range(shares + 1)] if shares else [0]
    return [range(first, last) for first, last in pairwise(bounds)]
