"""What is asked of the machine of one transactional id, and what it answers. Values only.

A command that wants an answer carries a `token`, which its `Reply` names. Partitions come resolved to ids, fresh producer
ids come with the command, and time comes with `step`.

Transactions of one transactional id are numbered: 1, 2, 3 … as they become Ongoing. What others keep of one (a group its
pending offsets) they keep under (transactional id, number), and `Outcome` says what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple, NewType, TypeAlias

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, ProducerId
from riverlog.base.units import DAY_MS, MINUTE_MS

Token = NewType("Token", int)  # names one request that waits for an answer
Number = NewType("Number", int)  # of a transaction among those of its transactional id


class TransactionState(Enum):
    """A value is the name that Kafka's tools print."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"
    PREPARE_EPOCH_FENCE = "PrepareEpochFence"
    DEAD = "Dead"


class Version(IntEnum):
    """`transaction.version` that a request shows its client to speak."""

    PLAIN = 0  # partitions are added and verified (KIP-890, first part)
    FLEXIBLE = 1
    EPOCH_BUMPED = 2  # KIP-890, second part: each end bumps the epoch, partitions are added by the produce itself


class Outcome(Enum):
    """What became of a numbered transaction. One that nobody knows any more was aborted."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionSettings:
    """What an operator may tune of transactions."""

    timeout_ms_max: int = 15 * MINUTE_MS  # transaction.max.timeout.ms
    expiration_ms: int = 7 * DAY_MS  # transactional.id.expiration.ms
    settle_wait_ms_max: int = (
        1_000  # who asks while markers are being written waits that long before CONCURRENT_TRANSACTIONS
    )


class Producer(NamedTuple):
    """Who says that it is the producer of a transactional id. -1 and -1: nobody yet."""

    producer_id: int = -1
    epoch: int = -1


class Init(NamedTuple):
    """InitProducerId. `fresh_id` is used for a new transactional id and where epochs are exhausted.

    `timeout_ms` out of bounds is INVALID_TRANSACTION_TIMEOUT. Where a transaction is open, it is fenced and aborted
    first; the request waits for that, at most `settle_wait_ms_max`, and then gets CONCURRENT_TRANSACTIONS."""

    token: Token
    timeout_ms: int
    expected: Producer  # what the client has, to be kept or bumped (KIP-360)
    fresh_id: ProducerId


class Add(NamedTuple):
    """Partitions or groups that the transaction writes to: they are durable before the answer."""

    token: Token
    producer: Producer
    version: Version
    partitions: Sequence[PartitionId] = ()
    groups: Sequence[str] = ()


class Verify(NamedTuple):
    """Whether each partition is in the producer's open transaction; nothing is changed. Of a group: `groups`."""

    token: Token
    producer: Producer
    partitions: Sequence[PartitionId] = ()
    groups: Sequence[str] = ()


class End(NamedTuple):
    """EndTxn. `fresh_id` is used where the epochs of `producer` are exhausted by the bump."""

    token: Token
    producer: Producer
    version: Version
    committed: bool
    fresh_id: ProducerId


class Settled(NamedTuple):
    """The outcome of `MakeDurable`: everything that the transaction appended is durable (`error` None), or cannot be."""

    number: Number
    error: ErrorKind | None = None


class MarkersWritten(NamedTuple):
    """The outcome of `WriteMarkers`: partitions and groups that have heard of the decision, durably, or are gone."""

    number: Number
    partitions: Sequence[PartitionId] = ()
    groups: Sequence[str] = ()


class Describe(NamedTuple):
    token: Token


class LookUp(NamedTuple):
    """What became of transaction `number`; answered with an `Outcome`."""

    token: Token
    number: Number


class Tick(NamedTuple):
    """The deadline that was asked for has come (or an earlier moment: ticks may come for nothing)."""


class ProducerResult(NamedTuple):
    """Of Init and End: who the producer is from now on."""

    error: ErrorKind | None
    producer: Producer = Producer()


class AddResult(NamedTuple):
    """Of Add and Verify. `error` is of the whole request; else `errors` one a partition, in the order of the request.

    `number` names the open transaction."""

    error: ErrorKind | None
    number: Number = Number(0)
    errors: Sequence[ErrorKind | None] = ()


class Description(NamedTuple):
    """`start_ms` is wall time, -1: no transaction is open."""

    error: ErrorKind | None
    state: TransactionState = TransactionState.DEAD
    producer: Producer = Producer()
    timeout_ms: int = -1
    start_ms: int = -1
    partitions: Sequence[PartitionId] = ()


Command: TypeAlias = Init | Add | Verify | End | Settled | MarkersWritten | Describe | LookUp | Tick
Result: TypeAlias = ProducerResult | AddResult | Description | Outcome
