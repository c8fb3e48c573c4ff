"""What a user may tune of the local engine, as a value. `server/settings.py` makes it from the names in the comments."""

from __future__ import annotations

from dataclasses import dataclass
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
    read_threads: int = 4  # riverlog.read.threads: cold reads at a time
    page_cache_unsynced_bytes_max: int = 8 * MIB  # of one partition with durability page-cache, before it is synced too
    loaded_indexes_max: int = 256  # sealed segments whose indexes are kept in memory
