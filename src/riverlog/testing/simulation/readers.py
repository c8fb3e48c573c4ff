"""Who reads: fetches, checked batch by batch as a client checks them, and told to the model.

Invariant: a batch whose CRC is wrong is given to nobody; a client would stop there. What was read while the partition was cut
back is not remembered: it may be of before.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.records.batch import check_stored_batch, records_of
from riverlog.records.header import HEADER_BYTES, BatchHeader, read_header
from riverlog.storage.contract import Fetched, FetchedPartition, FileRegion, Isolation, LogEngine, Read
from riverlog.testing.simulation.model import PartitionModel, Seen, Violation
from riverlog.testing.simulation.senders import TOMBSTONE


async def fetch(
    engine: LogEngine,
    models: Mapping[PartitionId, PartitionModel],
    reads: Sequence[Read],
    bytes_max: int,
    isolation: Isolation,
) -> dict[PartitionId, Offset]:
    """One fetch. Gives where to go on, of each partition that gave something."""
    epochs = {read.partition: epoch_of(engine, read.partition) for read in reads}
    answer = engine.read(reads, bytes_max, isolation)
    fetched: Fetched = await answer if inspect.isawaitable(answer) else answer
    try:
        following: dict[PartitionId, Offset] = {}
        for read, one in zip(reads, fetched.partitions, strict=True):
            model = models.get(read.partition)
            if model is None:
                continue
            same = epoch_of(engine, read.partition) == epochs[read.partition] >= 0
            end = take(model, read.offset, one, remember=same)
            if end > read.offset:
                following[read.partition] = end
        return following
    finally:
        fetched.close()


def epoch_of(engine: LogEngine, partition: PartitionId) -> int:
    """-1: it does not serve now."""
    try:
        return engine.watermarks(partition).leader_epoch
    except RiverlogError:
        return -1


def take(model: PartitionModel, offset: Offset, fetched: FetchedPartition, *, remember: bool) -> Offset:
    """What a reader at `offset` makes of an answer. Gives where it reads next. Raises Violation, and what the answer says."""
    if fetched.error is not None:
        raise fetched.error
    data = bytes_of(fetched)
    expected = offset
    first = True
    for header, batch in whole_batches(data):
        try:
            check_stored_batch(batch, header)
        except RiverlogError:
            if model.damaged:
                return expected
            raise Violation(
                "corrupt", f"{model.id}: a bad batch at {header.base_offset} was given to a reader"
            ) from None
        if model.damaged and not header.base_offset <= expected <= header.last_offset:
            return expected  # the base offset is under no CRC: who reads on would see a leap
        if (first and header.last_offset < offset) or (not first and header.base_offset < expected):
            raise Violation("order", f"{model.id}: a batch of {header.base_offset} where {expected} is next")
        if header.last_offset >= fetched.high_watermark and fetched.high_watermark >= 0:
            raise Violation("early", f"{model.id}: {header.last_offset} was given at {fetched.high_watermark}")
        if remember:
            model.read(seen_in(batch, header), expected, header.next_offset)
        expected = Offset(header.next_offset)
        first = False
    return expected


def bytes_of(fetched: FetchedPartition) -> bytes:
    parts: list[bytes] = []
    for part in fetched.slices.parts:
        assert not isinstance(part, FileRegion), "these files have no descriptors"
        parts.append(bytes(part))
    return b"".join(parts)


def whole_batches(data: bytes) -> list[tuple[BatchHeader, bytes]]:
    """A batch that was cut at the end is left out, as clients do."""
    found: list[tuple[BatchHeader, bytes]] = []
    at = 0
    while len(data) - at >= HEADER_BYTES:
        header = read_header(data, at)
        if header.size < HEADER_BYTES or at + header.size > len(data):
            break
        found.append((header, data[at : at + header.size]))
        at += header.size
    return found


def seen_in(batch: bytes, header: BatchHeader) -> list[Seen]:
    seen: list[Seen] = []
    for record in records_of(batch, header):
        headers = {name: value or b"" for name, value in record.headers}
        value = record.value if record.value is not None else headers.get(TOMBSTONE, b"")
        seen.append(Seen(record.offset, value.decode(), record.key, record.value is None))
    return seen


async def read_all(engine: LogEngine, model: PartitionModel, bytes_max: int) -> dict[int, Seen]:
    """Everything from the log start on, as a fresh reader gets it; with flipped bits up to the first error."""
    marks = engine.watermarks(model.id)
    there: dict[int, Seen] = {}
    offset = marks.log_start
    while offset < marks.high_watermark:
        answer = engine.read([Read(model.id, offset, bytes_max)], bytes_max, Isolation.READ_UNCOMMITTED)
        fetched: Fetched = await answer if inspect.isawaitable(answer) else answer
        try:
            one = fetched.partitions[0]
            if one.error is not None and one.error.kind is ErrorKind.OFFSET_OUT_OF_RANGE:
                start = engine.watermarks(model.id).log_start
                if start > offset:  # retention was quicker
                    offset = start
                    continue
            following = take(model, offset, one, remember=False)
            for header, batch in whole_batches(bytes_of(one)):
                if header.next_offset <= following:
                    there.update({seen.offset: seen for seen in seen_in(batch, header) if seen.offset >= offset})
            if following <= offset:
                if model.damaged or model.compacted:
                    break
                raise Violation("unreadable", f"{model.id}: nothing at {offset} of {marks}")
            offset = following
        finally:
            fetched.close()
    return there
