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
    journal_commits: int = 0  # records that were written
    journal_bytes: int = 0
    journal_full: int = 0  # commits that synced segments because the journal had no room
    failed_journals: int = 0  # lanes whose journal is not used any more
    settled_segments: int = 0  # syncs of segments whose bytes the journal had
    failed_syncs: int = 0
    unsynced_bytes: int = 0  # now; the one that also falls
    warm_reads: int = 0
    cold_reads: int = 0
    cold_read_bytes: int = 0
    ahead_reads: int = 0  # cold reads that were done before they were asked for
    dropped_bytes: int = 0  # that cold reads brought into the page cache, and that left it behind them
    damaged_batches: int = 0  # that were found, of those that a start has not seen
    scrubbed_bytes: int = 0
    scrub_rounds: int = 0  # over all sealed segments
    rolled_segments: int = 0
    deleted_segments: int = 0
    deleted_bytes: int = 0
    late_batches: int = 0  # older than their topic's retention when they were appended
    checkpoints: int = 0
    recovered_partitions: int = 0
    recovered_bytes: int = 0  # read by recovery
    cut_bytes: int = 0  # cut off by recovery, and saved beside the segment
    replayed_bytes: int = 0  # written into segments from the journal
    orphans: int = 0
    offline_partitions: int = 0  # now
    compactions: int = 0  # runs over a partition that ended
    failed_compactions: int = 0
    compacted_bytes_in: int = 0  # of segments that were replaced
    compacted_bytes_out: int = 0  # of those that replaced them
    compacted_records_in: int = 0
    compacted_records_out: int = 0
    compaction_ms: int = 0
    dirty_ratio_max: float = 0.0  # now, of the partitions with cleanup.policy=compact; the other that also falls
