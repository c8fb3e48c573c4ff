"""The check of a stopped data directory: what `riverlog verify` prints. Reads, never writes; not pure.

Invariant: after a clean stop every flipped bit is found, in every file but the catalog, whose pages alone are checked, and
the free space of the journal. Understands our data directory, a log directory of Kafka's, and one partition's directory.
Not here: what is in a partition's directory (`partition_check.py`), repair (`repair.py`), the catalog's rows.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping

from riverlog.base.ids import PartitionId, TopicId, topic_id_text
from riverlog.storage.format import checkpoint, meta, names, partition_metadata
from riverlog.storage.format.errors import FormatError
from riverlog.storage.journal_check import check_journal
from riverlog.storage.partition_check import (
    ALL_TO_RECOVER,
    NOTHING_TO_RECOVER,
    Partition,
    Problem,
    Recovery,
    check_partition,
    content_of,
)

__all__ = ["Problem", "verify"]


def verify(
    directory: str, *, compacted_topics: Collection[str] = (), partitions: Collection[str] | None = None
) -> Iterator[Problem]:
    """All that is wrong in `directory`. Raises ValueError where it is no data directory and no partition's, OSError
    where it cannot be read. Which segments were compacted the checkpoint says; the offsets of `compacted_topics` may have
    gaps whatever it says. `partitions`: of a data directory only these, by the names of their directories (`flights-0`)."""
    directory = directory.rstrip("/") or "/"
    if not os.path.isdir(directory):
        raise ValueError(f"{directory} is not a directory: give a data directory, or one partition's")
    topics = os.path.join(directory, names.TOPICS)
    if os.path.isfile(os.path.join(directory, names.META)) or os.path.isdir(topics):
        return _data_directory(directory, topics, compacted_topics, partitions)
    if any(name.endswith(names.LOG) and names.parse_segment_file_name(name) for name in os.listdir(directory)):
        return _single(directory, compacted_topics)
    if any(names.parse_partition_directory_name(name) for name in os.listdir(directory)):
        return _partitions(directory, compacted_topics, None, {}, partitions)
    raise ValueError(f"{directory} is neither a data directory (no {names.META}) nor a partition's (no segments)")


def _single(directory: str, compacted_topics: Collection[str]) -> Iterator[Problem]:
    parsed = names.parse_partition_directory_name(os.path.basename(directory))
    allow_gaps = parsed is not None and parsed.topic in compacted_topics
    yield from check_partition(Partition(directory=directory, recovery=NOTHING_TO_RECOVER, gaps=allow_gaps))


def _data_directory(
    directory: str, topics: str, compacted_topics: Collection[str], partitions: Collection[str] | None
) -> Iterator[Problem]:
    yield from _lock(os.path.join(directory, names.LOCK))
    path = os.path.join(directory, names.META)
    try:
        meta.decode(content_of(path))
    except FileNotFoundError:
        yield Problem(path, 0, "is missing")
    except FormatError as error:
        yield Problem(path, error.position, error.what)
    path = os.path.join(directory, names.CHECKPOINT)
    found: checkpoint.Checkpoint | None = None
    try:
        found = checkpoint.decode(content_of(path))
    except FileNotFoundError:
        yield Problem(path, 0, "is missing: the next start reads every segment", is_note=True)
    except FormatError as error:
        yield Problem(path, error.position, error.what)
    marks = {} if found is None else {mark.partition: mark for mark in found.partitions}
    if os.path.isdir(path := os.path.join(directory, names.JOURNAL)):
        yield from check_journal(path, found is not None and found.clean)
    yield from _partitions(topics, compacted_topics, found, marks, partitions)


def _lock(path: str) -> Iterator[Problem]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        yield Problem(
            path, 0, "a broker runs on this directory: stop it first, or what follows may be work in progress", True
        )
    finally:
        os.close(descriptor)


def _partitions(
    topics: str,
    compacted_topics: Collection[str],
    found: checkpoint.Checkpoint | None,
    marks: Mapping[PartitionId, checkpoint.PartitionMark],
    only: Collection[str] | None,
) -> Iterator[Problem]:
    """Every partition below `topics`; `found` None: there is no checkpoint to agree with."""
    ours = os.path.basename(topics) == names.TOPICS
    seen: dict[PartitionId, str] = {}
    ids: dict[str, TopicId] = {}
    deleted: set[TopicId] = set()
    for name in sorted(os.listdir(topics)) if os.path.isdir(topics) else ():
        path = os.path.join(topics, name)
        if (gone := names.parse_deleted_directory_name(name)) is not None:
            deleted.add(gone.topic_id)
        parsed = names.parse_partition_directory_name(name)
        if parsed is None or not os.path.isdir(path) or (only is not None and name not in only):
            continue
        metadata = os.path.join(path, names.PARTITION_METADATA)
        mark: checkpoint.PartitionMark | None = None
        try:
            topic_id = partition_metadata.decode(content_of(metadata))
        except FileNotFoundError:
            yield Problem(metadata, 0, "is missing")
        except FormatError as error:
            yield Problem(metadata, error.position, error.what)
        else:
            partition = PartitionId(topic_id, parsed.partition)
            if ids.setdefault(parsed.topic, topic_id) != topic_id:
                what = f"topic id {topic_id_text(topic_id)} where others have {topic_id_text(ids[parsed.topic])}"
                yield Problem(metadata, 0, what)
            if (other := seen.setdefault(partition, path)) != path:
                yield Problem(metadata, 0, f"the same topic id and partition as {other}")
            mark = marks.get(partition)
            if found is not None and found.clean and mark is None:
                what = f"topic id {topic_id_text(topic_id)}, of which the checkpoint of a clean stop knows nothing"
                yield Problem(metadata, 0, what)
        recovery = NOTHING_TO_RECOVER
        if mark is not None and found is not None:
            recovery = Recovery(found.clean, mark.recovery_segment, mark.recovery_position)
        elif ours:
            recovery = ALL_TO_RECOVER
        gaps = parsed.topic in compacted_topics
        yield from check_partition(Partition(directory=path, recovery=recovery, mark=mark, gaps=gaps))
    for partition in sorted(marks.keys() - seen.keys()) if only is None else ():
        mark = marks[partition]
        if partition.topic_id not in deleted and mark.recovery_offset > mark.log_start:  # else it never had a record
            what = f"partition {partition.index} of topic {topic_id_text(partition.topic_id)} has no directory"
            place = os.path.join(os.path.dirname(topics), names.CHECKPOINT)
            yield Problem(place, 0, what, is_note=found is not None and not found.clean)
