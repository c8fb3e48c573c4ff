"""What is to be run: sections, loads, and how much of each, as values. Pure; the command line makes a `Plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

SECTIONS: Final = {
    "produce": "produce acks=1 by the C load generator: messages/s and the broker's CPU seconds",
    "synced": "produce acks=all (riverlog synced, Kafka not): messages/s",
    "consume": "the C consumer reads it all: messages/s and the broker's CPU seconds",
    "fetch": "the raw fetch loop drains it all from the page cache: MB/s",
    "latency": "one produce request in flight, acks=1, 128 B: p50 and p99",
    "memory": "resident memory idle, and after 1 GB in and out",
    "start": "from the start of the process to the first acknowledged produce",
    "growth": "riverlog against itself: append and read at growing sizes of a partition",
    "partitions": "riverlog against itself: 1, 100, 1,000 and 10,000 partitions",
    "journal": "one commit of 1,000 partitions and of one, a paced load and full speed with acks=all",
    "wide": "produce over 1,000 partitions, acks=1 and acks=all",
    "starts": "riverlog: a fresh directory, starts after kill -9 and after a clean stop with 10,000 partitions",
    "compaction": "a compacted topic: time until clean, and produce meanwhile",
    "cold": "riverlog: the tail while consumers read cold data",
    "groups": "members that join one group at once: seconds until all have their partitions, and the broker's CPU seconds",
    "transactions": "transactions of 1 and of 1,000 records by 1 and by 8 producers: how many a second, p50 and p99",
    "offsets": "commits of 100 groups at once: partition offsets/s, p50 and p99",
}
PER_LOAD: Final = ("produce", "synced", "consume", "fetch")


class Load(NamedTuple):
    """`messages` messages of `size` bytes."""

    size: int
    messages: int

    @property
    def label(self) -> str:
        return f"{self.size} B" if self.size < 1024 else f"{self.size // 1024} KiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of what. `rounds` are alternating runs of each broker."""

    sections: tuple[str, ...]
    loads: tuple[Load, ...]
    rounds: int
    cold: bool = False  # loads: a new process for each run, instead of two that run throughout
    partitions: int
    latency_requests: int
    memory_load: Load
    growth_records: tuple[int, ...]
    growth_requests: int
    partition_counts: tuple[int, ...]
    partition_messages: int
    commits: int  # of 1,000 partitions, a round
    paced_seconds: float
    full_speed_messages: int
    wide_messages: int
    crash_bytes: int  # since the checkpoint at a kill, written with acks=1
    crash_journal_bytes: int  # and with acks=all
    clean_partitions: int
    clean_bytes: int
    compaction_bytes: int
    compaction_keys: int
    cold_bytes: int
    cold_consumers: int
    cold_seconds: float  # of each load, and at most of reading
    group_members: tuple[int, ...]  # of the consumer protocol; the first also of the classic one
    group_partitions: int
    heartbeat_seconds: float
    transaction_records: tuple[int, ...]
    transaction_producers: tuple[int, ...]
    transaction_seconds: float
    offset_groups: int
    offset_seconds: float


def full(sections: Sequence[str], sizes: Sequence[int], rounds: int | None) -> Plan:
    """The loads of the issue's table: minutes a section."""
    counts = {128: 1_000_000, 512: 1_000_000, 1024: 1_000_000, 10_240: 200_000}
    return Plan(
        sections=tuple(sections), loads=loads(counts, sizes), rounds=rounds or 5, partitions=4,
        latency_requests=5_000, memory_load=Load(1024, 1_000_000),
        growth_records=(1_000, 1_000_000, 10_000_000, 50_000_000), growth_requests=4_000,
        partition_counts=(1, 100, 1_000, 10_000), partition_messages=1_000_000,
        commits=20, paced_seconds=5, full_speed_messages=500_000, wide_messages=300_000,
        crash_bytes=1_000_000_000, crash_journal_bytes=240_000_000,
        clean_partitions=10_000, clean_bytes=10_000_000_000,
        compaction_bytes=1_000_000_000, compaction_keys=100_000,
        cold_bytes=20_000_000_000, cold_consumers=8, cold_seconds=15,
        group_members=(100, 1_000), group_partitions=1_000, heartbeat_seconds=1.0,
        transaction_records=(1, 1_000), transaction_producers=(1, 8), transaction_seconds=5, offset_groups=100, offset_seconds=5,
    )  # fmt: skip


def quick(sections: Sequence[str], sizes: Sequence[int], rounds: int | None) -> Plan:
    """The same shape with little of everything: to see that it runs and where it stands, not for the record."""
    counts = {128: 300_000, 512: 200_000, 1024: 200_000, 10_240: 20_000}
    return Plan(
        sections=tuple(sections), loads=loads(counts, sizes), rounds=rounds or 2, partitions=4,
        latency_requests=2_000, memory_load=Load(1024, 200_000),
        growth_records=(1_000, 100_000, 1_000_000), growth_requests=1_000,
        partition_counts=(1, 100), partition_messages=100_000,
        commits=5, paced_seconds=1.5, full_speed_messages=100_000, wide_messages=100_000,
        crash_bytes=100_000_000, crash_journal_bytes=40_000_000,
        clean_partitions=1_000, clean_bytes=200_000_000,
        compaction_bytes=100_000_000, compaction_keys=10_000,
        cold_bytes=1_000_000_000, cold_consumers=8, cold_seconds=3,
        group_members=(100,), group_partitions=1_000, heartbeat_seconds=1.0,
        transaction_records=(1, 1_000), transaction_producers=(1, 8), transaction_seconds=2, offset_groups=100, offset_seconds=2,
    )  # fmt: skip


def loads(counts: dict[int, int], sizes: Sequence[int]) -> tuple[Load, ...]:
    """The loads of the chosen sizes; of all where none is chosen. A size without a count has the nearest one's."""
    chosen = sizes or tuple(counts)
    return tuple(Load(size, counts[min(counts, key=lambda known: abs(known - size))]) for size in chosen)


def chosen_sections(only: str | None, without: str | None) -> tuple[str, ...]:
    """Sections by comma-separated names, in their own order; ValueError names an unknown one and the known."""
    names = _names(only) or set(SECTIONS)
    unknown = (names | _names(without)) - SECTIONS.keys()
    if unknown:
        raise ValueError(f"no section is called {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return tuple(name for name in SECTIONS if name in names - _names(without))


def _names(text: str | None) -> set[str]:
    return {name.strip() for name in (text or "").split(",") if name.strip()}
