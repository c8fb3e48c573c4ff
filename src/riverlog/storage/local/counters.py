"""What the local engine counts: plain numbers that only rise, read by /metrics. They cost an addition each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    appended_batches: int = 0
    appended_bytes: int = 0
    duplicate_batches: int = 0
    refused_batches: int = 0
    failed_writes: int = 0
    commits: int = 0
    syncs: int = 0  # of segment files
    failed_syncs: int = 0
    unsynced_bytes: int = 0  # now; the one that also falls
    warm_reads: int = 0
    cold_reads: int = 0
    cold_read_bytes: int = 0
    rolled_segments: int = 0
    deleted_segments: int = 0
    deleted_bytes: int = 0
    late_batches: int = 0  # older than their topic's retention when they were appended
    checkpoints: int = 0
    recovered_partitions: int = 0
    recovered_bytes: int = 0  # read by recovery
    cut_bytes: int = 0  # cut off by recovery, and saved beside the segment
    orphans: int = 0
    offline_partitions: int = 0  # now
