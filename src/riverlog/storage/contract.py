"""What a storage engine promises. Every engine passes `testing/conformance/log_engine.py`; nothing above this layer knows
which one runs.

- `append` takes its place in the order when it is called; only durability is awaited. Bytes are borrowed until the call
  returns (not: until what it returned is done), so a caller may reuse its receive buffer at once.
- One produce request is one `append` call with all its partitions, one batch each. The engine owns order, offsets, the check
  of producer epochs and sequences, durability and the watermarks. All under a batch's CRC is final at the call; the engine
  sets only bytes 0-7 (base offset) and 12-15 (leader epoch), in place where the buffer is writable.
- A reader never sees past the high watermark, which under `durability=fsync` is the durable end.
- Whoever got `Fetched` closes it, once its bytes are sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final, NamedTuple, Protocol, TypeAlias

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import NodeId, Offset, PartitionId, Position, ProducerId, TopicId, TopicName
from riverlog.base.units import DAY_MS, GIB, INT64_MAX, MIB
from riverlog.env.files import Volume
from riverlog.records.header import BatchHeader

Buffer: TypeAlias = bytes | bytearray | memoryview


class Acks(IntEnum):
    """What a producer waits for; the numbers are the Kafka protocol's."""

    NONE = 0
    LEADER = 1
    ALL = -1


class Isolation(IntEnum):
    READ_UNCOMMITTED = 0
    READ_COMMITTED = 1


class Durability(Enum):
    """A topic's `riverlog.durability`: what the high watermark is."""

    FSYNC = "fsync"  # the durable end
    PAGE_CACHE = "page-cache"  # the log end, as Kafka does


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What an engine must know of a topic's configuration, resolved (topic, else broker, else default). Units in the names."""

    segment_bytes: int = GIB
    segment_ms: int = 7 * DAY_MS
    segment_jitter_ms: int = 0  # a segment rolls by up to that much earlier
    index_interval_bytes: int = 4096
    segment_index_bytes: int = 10 * MIB
    retention_ms: int = 7 * DAY_MS  # -1: for ever
    retention_bytes: int = -1
    cleanup_delete: bool = True
    cleanup_compact: bool = False
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = INT64_MAX
    delete_retention_ms: int = DAY_MS
    file_delete_delay_ms: int = 60_000
    flush_messages: int = INT64_MAX
    flush_ms: int = INT64_MAX
    preallocate: bool = False
    log_append_time: bool = False
    durability: Durability = Durability.FSYNC


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLog:
    """A topic as an engine sees it: `partition_count` logs of one configuration."""

    topic_id: TopicId
    name: TopicName
    partition_count: int
    config: LogConfig = field(default_factory=LogConfig)


class Append(NamedTuple):
    """One batch for one partition. The caller has checked magic, length and CRC; `header` is what `batch` begins with."""

    partition: PartitionId
    batch: Buffer
    header: BatchHeader


class Appended(NamedTuple):
    base_offset: Offset
    next_offset: Offset
    log_start_offset: Offset
    duplicate: bool = False  # the producer's own earlier batch; `base_offset` is the old one


class Refused(NamedTuple):
    """Not appended, and nothing of it is in the log. Other partitions of the same call are not touched."""

    error: RiverlogError
    log_start_offset: Offset = Offset(-1)


class Fence(NamedTuple):
    """A lease that must hold at the commit point; a lost one refuses the call whole (ErrorKind.FENCE_LOST)."""

    scope: str
    epoch: int


class EndMarker(NamedTuple):
    """What ends a producer's transaction in one partition, as a control batch."""

    partition: PartitionId
    producer_id: ProducerId
    producer_epoch: int
    committed: bool
    coordinator_epoch: int  # of the coordinator that decided; a smaller one than the last is a zombie's


class Read(NamedTuple):
    """Where to read, and at most how much. The first batch of a whole fetch is given whole, however large."""

    partition: PartitionId
    offset: Offset
    bytes_max: int


class FileRegion:
    """`count` bytes of an open file. `resident`: sendfile will not wait for a disk. The descriptor stays open until the
    `Slices` that hold it are closed, also when the segment was deleted meanwhile."""

    __slots__ = ("count", "descriptor", "position", "resident")

    def __init__(self, descriptor: int, position: Position, count: int, resident: bool) -> None:
        self.descriptor = descriptor
        self.position = position
        self.count = count
        self.resident = resident


Part: TypeAlias = FileRegion | Buffer


class Slices:
    """Whole batches in order of their offsets, as parts to be sent one after another; the last batch may be cut, as in Kafka.
    `release` is called once by `close`."""

    __slots__ = ("_release", "parts", "size")

    def __init__(self, parts: Sequence[Part], size: int, release: Callable[[], None] | None = None) -> None:
        self.parts = parts
        self.size = size
        self._release = release

    def close(self) -> None:
        if (release := self._release) is not None:
            self._release = None
            release()


NO_SLICES: Final = Slices((), 0)


class AbortedTransaction(NamedTuple):
    """From `first_offset` to the producer's next abort marker its records are not to be shown."""

    producer_id: ProducerId
    first_offset: Offset


class FetchedPartition(NamedTuple):
    """`error` set: nothing was read. The numbers are of one moment. `aborted`, with READ_COMMITTED: all that have a record or
    their marker in what was read, or reach over it, by first offset; perhaps some that begin shortly behind it."""

    slices: Slices
    high_watermark: Offset
    last_stable_offset: Offset
    log_start_offset: Offset
    aborted: Sequence[AbortedTransaction] | None = None
    error: RiverlogError | None = None


class Fetched(NamedTuple):
    """In the order of the reads."""

    partitions: Sequence[FetchedPartition]
    size: int

    def close(self) -> None:
        for partition in self.partitions:
            partition.slices.close()


class Watermarks(NamedTuple):
    log_start: Offset
    log_end: Offset
    durable_end: Offset
    high_watermark: Offset
    last_stable_offset: Offset
    leader_epoch: int


class TimestampedOffset(NamedTuple):
    offset: Offset
    timestamp_ms: int
    leader_epoch: int


class EpochEnd(NamedTuple):
    """`leader_epoch` -1 and `end_offset` -1: the epoch that was asked for is not known."""

    leader_epoch: int
    end_offset: Offset


class LogSize(NamedTuple):
    """Of one partition, for metrics and for people."""

    bytes: int
    segments: int
    log_start: Offset
    log_end: Offset


class ProducerState(NamedTuple):
    producer_id: ProducerId
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int
    current_transaction_first_offset: Offset
    coordinator_epoch: int = -1  # of the last marker


class Subscription(Protocol):
    def close(self) -> None: ...


class LogEngine(Protocol):
    """Methods raise `RiverlogError` (UNKNOWN_TOPIC for a partition that is not open here, STORAGE where it is offline).
    All are called on the loop's thread."""

    node_id: NodeId

    # Topics. The catalog is the truth; an engine is told.
    async def open_topic(self, topic: TopicLog) -> None:
        """Makes, or opens, all partitions of the topic; called again with more partitions it makes the new ones."""
        ...

    def configure(self, topic_id: TopicId, config: LogConfig) -> None: ...

    async def delete_topic(self, topic_id: TopicId) -> None:
        """Readers and waiters get UNKNOWN_TOPIC; files go in the background. Making the name again never waits for it."""
        ...

    # Records
    def append(
        self, appends: Sequence[Append], acks: Acks, fences: Sequence[Fence] = ()
    ) -> Sequence[Appended | Refused] | Awaitable[Sequence[Appended | Refused]]:
        """In order of the calls. What is returned is the answer itself where nothing has to be waited for, else a future
        of it: with acks ALL and fsync it is done when the batch, or the original of a duplicate, is durable."""
        ...

    def end_transactions(self, markers: Sequence[EndMarker]) -> Awaitable[Sequence[Appended | Refused]]:
        """Appends a control batch for each, which takes its place at the call; done when all are durable, also with durability
        page-cache, in the order of `markers`. Refuses INVALID_PRODUCER_EPOCH (the partition knows a later one),
        TRANSACTION_COORDINATOR_FENCED (a later coordinator has written there), UNKNOWN_TOPIC and STORAGE. A marker raises
        the producer's epoch here, so that what an earlier epoch sends late is refused. One that is told again, where
        nothing is open and both epochs are known already, is not written twice: `duplicate`, with the log end for its
        offsets, once everything before it is durable."""
        ...

    def read(
        self, reads: Sequence[Read], bytes_max: int, isolation: Isolation
    ) -> Fetched | Awaitable[Fetched]:
        """A whole fetch under one budget of bytes, in the order of `reads`. Never waits for new data."""
        ...

    def watermarks(self, partition: PartitionId) -> Watermarks:
        """What this process knows, perhaps behind; never blocks."""
        ...

    def is_visible(self, partition: PartitionId, producer_id: ProducerId) -> bool:
        """Whether all that the producer has appended to the partition under its present epoch lies below the high
        watermark, so that a `cut` need not be waited for. May say no for too long, never yes too early; never blocks."""
        ...

    async def cut(self, partitions: Sequence[PartitionId], isolation: Isolation) -> Mapping[PartitionId, Offset]:
        """The ends that cover every append that was answered anywhere before the call."""
        ...

    def subscribe(self, partitions: Sequence[PartitionId], wake: Callable[[], None]) -> Subscription:
        """`wake` is called on the loop whenever one of the partitions' high watermark or last stable offset has moved,
        or the partition went away. It may be called for nothing, never too seldom."""
        ...

    async def offset_for_time(self, partition: PartitionId, timestamp_ms: int) -> TimestampedOffset | None:
        """The first visible record with that timestamp or a later one, exact to the record."""
        ...

    async def offset_of_max_timestamp(self, partition: PartitionId) -> TimestampedOffset | None: ...

    async def delete_before(self, partition: PartitionId, offset: Offset) -> Offset:
        """Moves the log start up to `offset` (-1: the high watermark), durably; gives the new log start."""
        ...

    def epoch_end(self, partition: PartitionId, leader_epoch: int) -> EpochEnd:
        """Kafka's answer to OffsetForLeaderEpoch: the largest known epoch up to that one, and where it ends."""
        ...

    # Operation
    def producers(self, partition: PartitionId) -> Sequence[ProducerState]: ...

    def size(self, partition: PartitionId) -> LogSize: ...

    async def volume(self) -> Volume | None:
        """What the logs lie on, for people. None: it cannot be told."""
        ...

    def room(self) -> Awaitable[None] | None:
        """Not None: too much is unsynced; await it before reading more from a socket."""
        ...

    async def close(self) -> None:
        """Syncs everything, marks a clean stop, lets go of the directory."""
        ...
