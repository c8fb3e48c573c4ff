"""Makes directories of partitions with the formats' own code, as an engine would: segments, indexes, snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, Position, TopicId
from riverlog.kernels import encode_records
from riverlog.records.checksum import crc32c
from riverlog.records.header import BATCH_HEADER, BatchHeader, read_header
from riverlog.records.record import NewRecord
from riverlog.state.producers import Producers
from riverlog.storage.format import names, partition_metadata, producer_snapshot
from riverlog.storage.format.checkpoint import PartitionMark, SegmentMark
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.format.time_index import TimeIndex

TOPIC_ID = TopicId(bytes(range(16)))


def make_batch(
    base_offset: int,
    records: Sequence[NewRecord],
    *,
    leader_epoch: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
    attributes: int = 0,
) -> bytes:
    """One uncompressed batch with its CRC. `producer`: id, epoch, base sequence."""
    count = len(records)
    first_ms = records[0].timestamp_ms
    last_ms = max(record.timestamp_ms for record in records)
    body = bytes(encode_records([_relative(record, first_ms) for record in records]))
    fields = (attributes, count - 1, first_ms, last_ms, *producer, count)
    header = bytearray(BATCH_HEADER.pack(base_offset, 49 + len(body), leader_epoch, 2, 0, *fields))
    crc = crc32c(bytes(header[21:]) + body)
    header[17:21] = crc.to_bytes(4, "big")
    return bytes(header) + body


def _relative(record: NewRecord, first_ms: int) -> NewRecord:
    """As the kernel takes it: a timestamp delta, and the keys of headers as bytes."""
    headers = [(key.encode(), value) for key, value in record.headers]
    return record._replace(timestamp_ms=record.timestamp_ms - first_ms, headers=headers)


def simple_records(count: int, timestamp_ms: int, *, size: int = 40) -> list[NewRecord]:
    return [NewRecord(timestamp_ms + at, b"key-%d" % at, b"v" * size) for at in range(count)]


@dataclass
class PartitionWriter:
    """Writes a whole partition's directory; `batches` of `records_each` records of timestamps that rise by one."""

    directory: Path
    topic_id: TopicId = TOPIC_ID
    partition: int = 0
    index_interval_bytes: int = 500
    producers: Producers = field(default_factory=Producers)
    marks: list[SegmentMark] = field(default_factory=list)
    next_offset: int = 0
    leader_epoch: int = 0

    def start(self) -> PartitionWriter:
        self.directory.mkdir(parents=True)
        (self.directory / names.PARTITION_METADATA).write_bytes(partition_metadata.encode(self.topic_id))
        epochs = LeaderEpochs([EpochEntry(LeaderEpoch(0), Offset(0))])
        (self.directory / names.LEADER_EPOCHS).write_bytes(epochs.encode())
        return self

    def segment(self, batches: int, records_each: int = 5, *, producer_id: int = -1, keep: bool = True) -> Path:
        """One more segment, at the log end. `keep`: it is sealed, as the checkpoint will say."""
        base_offset = Offset(self.next_offset)
        offsets, times = OffsetIndex(base_offset), TimeIndex(base_offset)
        log = bytearray()
        since, largest, largest_offset = 0, -1, base_offset
        (self.directory / names.segment_file_name(base_offset, names.SNAPSHOT)).write_bytes(self.snapshot())
        for _ in range(batches):
            sequence = self.next_offset if producer_id >= 0 else -1
            producer = (producer_id, 0 if producer_id >= 0 else -1, sequence)
            records = simple_records(records_each, 1_700_000_000_000 + self.next_offset)
            batch = make_batch(self.next_offset, records, leader_epoch=self.leader_epoch, producer=producer)
            header = read_header(batch)
            self.producers.apply(header, Offset(self.next_offset), 1_700_000_000_000)
            if header.max_timestamp > largest:
                largest, largest_offset = header.max_timestamp, Offset(header.last_offset)
            if since > self.index_interval_bytes:
                offsets.append(Offset(header.last_offset), Position(len(log)))
                times.append(largest, largest_offset)
                since = 0
            since += len(batch)
            log += batch
            self.next_offset = header.next_offset
        times.append(largest, largest_offset)
        path = self.directory / names.segment_file_name(base_offset, names.LOG)
        path.write_bytes(log)
        path.with_suffix(names.INDEX).write_bytes(offsets.encode())
        path.with_suffix(names.TIME_INDEX).write_bytes(times.encode())
        if keep:
            self.marks.append(SegmentMark(base_offset, len(log), Offset(self.next_offset - 1), largest))
        return path

    def snapshot(self) -> bytes:
        return producer_snapshot.encode(self.producers.entries())

    def mark(self, active: Path) -> PartitionMark:
        """What a checkpoint says of it after a clean stop, where `active` is the last segment."""
        return PartitionMark(
            PartitionId(self.topic_id, self.partition),
            LeaderEpoch(self.leader_epoch),
            Offset(0),
            Offset(self.next_offset),
            Offset(int(active.stem)),
            Position(active.stat().st_size),
            tuple(self.marks),
        )


def headers_of(log: bytes) -> list[BatchHeader]:
    """Of every batch in a segment's bytes."""
    found: list[BatchHeader] = []
    position = 0
    while position < len(log):
        found.append(read_header(log, position))
        position += found[-1].size
    return found
