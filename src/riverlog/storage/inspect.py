"""Any file of a data directory as text or as values: what `riverlog dump` prints. Reads, never writes; not pure.

Invariant: a damaged file never stops with a traceback: what was readable is given, then one entry of kind `damage` that
says where and what. `verify`, the check of a whole directory, is in `storage/verify.py` and is given from here too.
See docs/guide/formats.md.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, topic_id_text
from riverlog.base.units import MIB
from riverlog.records.batch import records_of
from riverlog.records.checksum import crc32c
from riverlog.storage.format import (
    checkpoint,
    journal,
    leader_epochs,
    lock,
    meta,
    names,
    partition_metadata,
    producer_snapshot,
    swap,
    txn_index,
)
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.verify import Problem, verify
from riverlog.storage.windows import StoredBatch, stored_batches

__all__ = ["Problem", "dump", "dump_values", "text_of", "verify"]

Value: TypeAlias = "str | int | bool | list[Value] | dict[str, Value] | None"
Entry: TypeAlias = dict[str, Value]

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
_SMALL_FILE_BYTES_MAX: Final = 512 * MIB  # every file but a segment is read whole


def dump(path: str, *, records: bool = False) -> Iterator[str]:
    """A line for each entry of the file. Raises ValueError at the call where the name is not one of ours, OSError with
    the first line where the file cannot be read. `records`: of a segment also each record."""
    return map(text_of, dump_values(path, records=records))


def dump_values(path: str, *, records: bool = False) -> Iterator[Entry]:
    """The same as JSON-able values; the first key, `kind`, says what an entry is. Raises as `dump`."""
    name = os.path.basename(path)
    if name.endswith(names.DELETED):
        name = name.removesuffix(names.DELETED)
    segment = names.parse_segment_file_name(name.partition(".cut-")[0].partition(".dropped-")[0])
    if segment is not None and segment.suffix == names.LOG:
        return _segment(path, records)
    if segment is not None:
        decode = _BY_SUFFIX[segment.suffix]
        return _small(path, lambda data: decode(data, segment.base_offset))
    if name in journal.FILE_NAMES:
        return _journal(path)
    if (decode_whole := _BY_NAME.get(name.removesuffix(names.TEMPORARY))) is not None:
        return _small(path, decode_whole)
    raise ValueError(
        f"{name} is not a file of a data directory: dump reads segments ({', '.join(names.SEGMENT_SUFFIXES)} after 20 "
        f"digits), {', '.join((*_BY_NAME, *journal.FILE_NAMES))}"
    )


def text_of(entry: Mapping[str, Value]) -> str:
    """`{"kind": "batch", "position": 0}` -> `batch position=0`."""
    kind, *fields = entry.items()
    return " ".join([str(kind[1]), *(f"{name}={_text(value)}" for name, value in fields)])


def _text(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, str) and (not value or not value.isprintable() or " " in value or '"' in value):
        return '"' + value.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
    return str(value)


def _damage(position: int, what: str) -> Entry:
    return {"kind": "damage", "position": position, "what": what}


def _segment(path: str, records: bool) -> Iterator[Entry]:
    with open(path, "rb", buffering=0) as raw:
        try:
            for batch in stored_batches(raw):
                crc_ok = batch.crc_ok
                yield _batch(batch, crc_ok)
                if records and crc_ok:
                    yield from _records(batch)
        except FormatError as error:
            yield _damage(error.position, error.what)


def _batch(batch: StoredBatch, crc_ok: bool) -> Entry:
    header = batch.header
    entry: Entry = {
        "kind": "batch",
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "position": batch.position,
        "size": header.size,
        "records": header.record_count,
        "codec": CODECS[header.compression] if header.compression < len(CODECS) else str(header.compression),
        "leader_epoch": header.leader_epoch,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "timestamp_type": "LogAppendTime" if header.is_log_append_time else "CreateTime",
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional,
        "control": header.is_control,
        "crc": header.crc,
        "crc_ok": crc_ok,
    }
    return entry


def _records(batch: StoredBatch) -> Iterator[Entry]:
    try:
        found = list(records_of(batch.data, batch.header))
    except RiverlogError as error:
        yield _damage(batch.position, str(error))
        return
    for record in found:
        yield {
            "kind": "record",
            "offset": record.offset,
            "timestamp": record.timestamp_ms,
            "key": _bytes_text(record.key),
            "value": _bytes_text(record.value),
            "headers": [[_name_text(name), _bytes_text(value)] for name, value in record.headers],
        }


def _bytes_text(data: bytes | memoryview | None) -> Value:
    """Text where it is UTF-8, else an object with the base64 of it."""
    if data is None:
        return None
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode("ascii")}


def _name_text(name: str) -> str:
    """Without the surrogates that stand for bytes that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _small(path: str, decode: Callable[[bytes], Iterable[Entry]]) -> Iterator[Entry]:
    with open(path, "rb") as file:
        data = file.read(_SMALL_FILE_BYTES_MAX)
    try:
        yield from decode(data)
    except FormatError as error:
        yield _damage(error.position, error.what)


def _offset_index(data: bytes, base_offset: Offset) -> Iterator[Entry]:
    for entry in OffsetIndex.decode(data, base_offset):
        yield {"kind": "index", "offset": entry.offset, "position": entry.position}


def _time_index(data: bytes, base_offset: Offset) -> Iterator[Entry]:
    for entry in TimeIndex.decode(data, base_offset):
        time = _time_text(entry.timestamp_ms)
        yield {"kind": "time", "timestamp": entry.timestamp_ms, "time": time, "offset": entry.offset}


def _time_text(timestamp_ms: int) -> str | None:
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None


def _txn_index(data: bytes, base_offset: Offset) -> Iterator[Entry]:
    for entry in txn_index.decode(data):
        yield {"kind": "aborted", **entry._asdict()}


def _snapshot(data: bytes, offset: Offset) -> Iterator[Entry]:
    for entry in producer_snapshot.decode(data):
        yield {
            "kind": "producer",
            "producer_id": entry.producer_id,
            "epoch": entry.epoch,
            "timestamp": entry.timestamp_ms,
            "coordinator_epoch": entry.coordinator_epoch,
            "transaction_first_offset": entry.transaction_first_offset,
            "batches": [
                {
                    "base_sequence": mark.base_sequence,
                    "last_sequence": mark.last_sequence,
                    "base_offset": mark.base_offset,
                    "last_offset": mark.base_offset + mark.last_offset_delta,
                }
                for mark in entry.batches
            ],
        }


def _leader_epochs(data: bytes) -> Iterator[Entry]:
    for entry in leader_epochs.LeaderEpochs.decode(data).entries:
        yield {"kind": "leader-epoch", "epoch": entry.epoch, "start_offset": entry.start_offset}


def _partition_metadata(data: bytes) -> Iterator[Entry]:
    topic_id = partition_metadata.decode(data)
    yield {"kind": "partition", "topic_id": topic_id_text(topic_id), "topic_id_hex": topic_id.hex()}


def _meta(data: bytes) -> Iterator[Entry]:
    yield {"kind": "meta", **meta.decode(data)._asdict()}


def _lock(data: bytes) -> Iterator[Entry]:
    content = lock.decode(data)
    yield {"kind": "lock", "pid": content.pid, "addresses": dict(content.addresses)}


def _checkpoint(data: bytes) -> Iterator[Entry]:
    found = checkpoint.decode(data)
    yield {
        "kind": "checkpoint",
        "clean": found.clean,
        "generation": found.generation,
        "partitions": len(found.partitions),
    }
    for mark in found.partitions:
        yield {
            "kind": "partition",
            "topic_id": topic_id_text(mark.partition.topic_id),
            "partition": mark.partition.index,
            "leader_epoch": mark.leader_epoch,
            "log_start": mark.log_start,
            "recovery_offset": mark.recovery_offset,
            "recovery_segment": mark.recovery_segment,
            "recovery_position": mark.recovery_position,
            "cleaned_offset": mark.cleaned_offset,
            "active": None if mark.active is None else dict(mark.active._asdict()),
            "has_snapshot": mark.has_snapshot,
            "checksums": _sums(mark.file_checksums._asdict()),
        }
        yield from map(_segment_mark, mark.segments)


def _segment_mark(mark: checkpoint.SegmentMark) -> Entry:
    return {
        "kind": "segment",
        "base_offset": mark.base_offset,
        "size": mark.size,
        "last_offset": mark.last_offset,
        "max_timestamp": mark.max_timestamp_ms,
        "max_timestamp_offset": mark.max_timestamp_offset,
        "created_ms": mark.created_ms,
        "compacted": bool(mark.flags & checkpoint.COMPACTED),
        "checksums": None if mark.checksums is None else _sums(mark.checksums._asdict()),
    }


def _sums(sums: Mapping[str, int | None]) -> Value:
    """In hexadecimal; what is not known is left out."""
    return {name: f"{crc:08x}" for name, crc in sums.items() if crc is not None}


def _swap(data: bytes) -> Iterator[Entry]:
    found = swap.decode(data)
    yield {
        "kind": "swap",
        "topic_id": topic_id_text(found.partition.topic_id),
        "partition": found.partition.index,
        "groups": len(found.groups),
    }
    for group in found.groups:
        yield {"kind": "group", "replaced": list(group.replaced)}
        yield from map(_segment_mark, group.fresh)


def _journal(path: str) -> Iterator[Entry]:
    """Its live records: by both tables, and whether the bytes of their entries are good."""
    with open(path, "rb", buffering=0) as file:

        def read(count: int, position: int) -> bytes:
            return os.pread(file.fileno(), count, position)

        try:
            found = journal.scan(read, os.fstat(file.fileno()).st_size)
        except FormatError as error:
            yield _damage(error.position, error.what)
            return
        yield {"kind": "journal", "generation": found.generation, "records": len(found.records)}
        for record in found.records:
            yield _journal_record(record)
            for entry, position in record.placed():
                crc = crc32c(read(entry.length, position))
                yield {
                    "kind": "entry",
                    "topic_id": topic_id_text(entry.partition.topic_id),
                    "partition": entry.partition.index,
                    "leader_epoch": entry.leader_epoch,
                    "base_offset": entry.base_offset,
                    "next_offset": entry.next_offset,
                    "segment": entry.segment,
                    "segment_position": entry.position,
                    "position": position,
                    "length": entry.length,
                    "crc_ok": crc == entry.crc,
                }
        for record in found.unread:
            yield _damage(record.position, f"record {record.sequence} can be read by its second table alone")
        if found.unknown:
            yield _damage(0, f"{found.unknown} places where a record was that cannot be read")


def _journal_record(record: journal.Record) -> Entry:
    return {
        "kind": "record",
        "position": record.position,
        "sequence": record.sequence,
        "length": record.length,
        "entries": len(record.entries),
    }


_BY_SUFFIX: Final[Mapping[str, Callable[[bytes, Offset], Iterable[Entry]]]] = {
    names.INDEX: _offset_index,
    names.TIME_INDEX: _time_index,
    names.TXN_INDEX: _txn_index,
    names.SNAPSHOT: _snapshot,
}
_BY_NAME: Final[Mapping[str, Callable[[bytes], Iterable[Entry]]]] = {
    names.LEADER_EPOCHS: _leader_epochs,
    names.PARTITION_METADATA: _partition_metadata,
    names.CHECKPOINT: _checkpoint,
    names.META: _meta,
    names.LOCK: _lock,
    names.SWAP: _swap,
}
