"""What a user may tune of the local engine, as a value. `server/settings.py` makes it from the names in the comments."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from riverlog.base import limits
from riverlog.base.ids import NodeId
from riverlog.base.units import DAY_MS, MIB, MINUTE_MS

FIRST_NODE: Final = NodeId(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    node_id: NodeId = FIRST_NODE  # broker.id; that of the directory wins once it is made
    cluster_id: str = ""  # riverlog.cluster.id; made up when the directory is made
    unsynced_bytes_max: int = limits.unsynced_bytes_max  # riverlog.unsynced.bytes.max
    open_files_max: int = 0  # riverlog.open.files.max; 0: half of what the system grants
    checkpoint_interval_ms: int = MINUTE_MS  # riverlog.checkpoint.interval.ms
    retention_check_interval_ms: int = 5 * MINUTE_MS  # log.retention.check.interval.ms
    producer_id_expiration_ms: int = DAY_MS  # producer.id.expiration.ms
    sync_threads: int = 8  # riverlog.sync.threads: files of one commit that are synced at a time
    journal_bytes_max: int = 256 * MIB  # riverlog.journal.bytes.max; 0: no journal
    journal_files_min: int = 3  # files that a commit would sync, from which on the journal is considered
    read_threads: int = 4  # riverlog.read.threads: looks at times and the like that need a disk, at a time
    catchup_threads: int = 2  # riverlog.catchup.threads: cold reads at a time
    catchup_bytes_per_second: int = 0  # riverlog.catchup.bytes.per.second: of all cold reads; 0: no limit
    scrub_bytes_per_second: int = 4 * MIB  # riverlog.scrub.bytes.per.second; 0: no scrubbing
    page_cache_unsynced_bytes_max: int = 8 * MIB  # of one partition with durability page-cache, before it is synced too
    loaded_indexes_max: int = 256  # sealed segments whose indexes are kept in memory
    cleaner_enable: bool = True  # log.cleaner.enable
    cleaner_threads: int = 1  # log.cleaner.threads: partitions that are compacted at a time
    cleaner_dedupe_bytes_max: int = 128 * MIB  # log.cleaner.dedupe.buffer.size: of the maps of keys, 32 bytes a key
    cleaner_io_bytes_per_second_max: float = inf  # log.cleaner.io.max.bytes.per.second: read and written
    cleaner_backoff_ms: int = 15_000  # log.cleaner.backoff.ms: before the next look where nothing was to be done
