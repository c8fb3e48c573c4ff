"""The names of files and directories of a data directory. Invariant: what is made here is parsed here, and nothing else
is.

See docs/formats/segment.md. Not here: where the directories lie and which of them exist.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from riverlog.base.ids import Offset, TopicId, TopicName
from riverlog.base.units import INT32_MAX, INT64_MAX

LOG: Final = ".log"
INDEX: Final = ".index"
TIME_INDEX: Final = ".timeindex"
TXN_INDEX: Final = ".txnindex"
SNAPSHOT: Final = ".snapshot"
SEGMENT_SUFFIXES: Final = (LOG, INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT)
DELETED: Final = ".deleted"  # after a suffix, or after a partition's directory: waits for its removal
TEMPORARY: Final = ".tmp"  # is written, synced, then renamed over what it replaces

LEADER_EPOCHS: Final = "leader-epoch-checkpoint"
PARTITION_METADATA: Final = "partition.metadata"
SWAP: Final = "swap"  # a compaction is putting segments into place
CHECKPOINT: Final = "checkpoint"
META: Final = "meta.json"
LOCK: Final = "riverlog.lock"
CATALOG: Final = "catalog.db"
TOPICS: Final = "topics"
ORPHANS: Final = "orphans"
JOURNAL: Final = "journal"

_SEGMENT_FILE: Final = re.compile(r"([0-9]{20})(\.(?:log|index|timeindex|txnindex|snapshot))(\.deleted)?", re.ASCII)
_PARTITION: Final = re.compile(r"([a-zA-Z0-9._-]{1,249})-(0|[1-9][0-9]{0,9})", re.ASCII)
_DELETED_PARTITION: Final = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,9})\.deleted", re.ASCII)


class SegmentFile(NamedTuple):
    base_offset: Offset
    suffix: str  # one of SEGMENT_SUFFIXES
    deleted: bool


class PartitionDirectory(NamedTuple):
    topic: TopicName
    partition: int


class DeletedDirectory(NamedTuple):
    topic_id: TopicId
    partition: int


def segment_name(base_offset: Offset) -> str:
    """`0` -> `00000000000000000000`: the twenty digits before the suffix."""
    return f"{base_offset:020d}"


def segment_file_name(base_offset: Offset, suffix: str) -> str:
    """`(0, LOG)` -> `00000000000000000000.log`."""
    return f"{base_offset:020d}{suffix}"


def parse_segment_file_name(name: str) -> SegmentFile | None:
    """None where it is not a segment's file (a cut-off tail, a temporary file, something of a user)."""
    if (match := _SEGMENT_FILE.fullmatch(name)) is None or (base_offset := int(match[1])) > INT64_MAX:
        return None
    return SegmentFile(Offset(base_offset), match[2], match[3] is not None)


def cut_name(base_offset: Offset, now_ms: int) -> str:
    """Where recovery saves the bytes that it cuts off a segment: `00000000000000000000.log.cut-1700000000000`."""
    return f"{base_offset:020d}{LOG}.cut-{now_ms}"


def partition_directory_name(topic: TopicName, index: int) -> str:
    return f"{topic}-{index}"


def parse_partition_directory_name(name: str) -> PartitionDirectory | None:
    """`a-b-0` -> topic `a-b`, partition 0; None where it is not of a partition. Whether the topic's name is allowed is
    not asked."""
    if (match := _PARTITION.fullmatch(name)) is None or (index := int(match[2])) > INT32_MAX:
        return None
    return PartitionDirectory(TopicName(match[1]), index)


def deleted_directory_name(topic_id: TopicId, index: int) -> str:
    """In hexadecimal, because base64 may begin with a dash and differ by case alone. Ends in no number: never a
    partition's."""
    return f"{topic_id.hex()}-{index}{DELETED}"


def parse_deleted_directory_name(name: str) -> DeletedDirectory | None:
    if (match := _DELETED_PARTITION.fullmatch(name)) is None or (index := int(match[2])) > INT32_MAX:
        return None
    return DeletedDirectory(TopicId(bytes.fromhex(match[1])), index)
