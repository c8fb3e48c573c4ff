"""Where a partition begins and ends, and which record was the first at a time. The special timestamps are Kafka's."""

from __future__ import annotations

from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicName
from riverlog.broker.fetch import check_leader_epoch
from riverlog.state.access import Access, Caller, Operation, Resource, ResourceKind
from riverlog.storage.contract import Isolation, LogEngine, TimestampedOffset

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_PENDING_UPLOAD: Final = -6

NOTHING: Final = TimestampedOffset(Offset(-1), -1, -1)


class OffsetQuestion(NamedTuple):
    name: TopicName
    partition: PartitionId
    timestamp_ms: int  # or one of the special ones above
    leader_epoch: int = -1


async def list_offset(
    engine: LogEngine, access: Access, caller: Caller, question: OffsetQuestion, isolation: Isolation
) -> TimestampedOffset:
    """`NOTHING` where no record answers the question. Raises RiverlogError."""
    if not access.allows(caller, Operation.DESCRIBE, Resource(ResourceKind.TOPIC, question.name)):
        raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to describe topic {question.name}")
    partition = question.partition
    check_leader_epoch(engine, partition, question.leader_epoch)
    match question.timestamp_ms:
        case -1:
            ends = await engine.cut([partition], isolation)
            return TimestampedOffset(ends[partition], -1, engine.watermarks(partition).leader_epoch)
        case -2 | -4:
            start = engine.watermarks(partition).log_start
            return TimestampedOffset(start, -1, _epoch_at(engine, partition, start))
        case -3:
            found = await engine.offset_of_max_timestamp(partition)
        case -5 | -6:
            return NOTHING  # nothing is tiered, and nothing waits to be
        case timestamp_ms if timestamp_ms >= 0:
            found = await engine.offset_for_time(partition, timestamp_ms)
        case other:
            raise RiverlogError(ErrorKind.INVALID_REQUEST, f"{other} is not a timestamp and none of -1 to -6")
    if found is None:
        return NOTHING
    if isolation is Isolation.READ_COMMITTED and found.offset >= engine.watermarks(partition).last_stable_offset:
        return NOTHING
    return found


def _epoch_at(engine: LogEngine, partition: PartitionId, offset: Offset) -> int:
    """The leader epoch of the record at `offset`: the first epoch that ends beyond it."""
    current = engine.watermarks(partition).leader_epoch
    for epoch in range(current):
        end = engine.epoch_end(partition, epoch)
        if end.leader_epoch == epoch and end.end_offset > offset:
            return epoch
    return current
