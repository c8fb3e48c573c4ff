"""What a transaction is to do, the batches it is made of, and what a client makes of a refusal. Values.

Invariant: a batch keeps its bytes and its numbers until it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.transactions.commands import Producer
from riverlog.testing.simulation.transactions.ledger import Place

AGAIN: Final = frozenset(
    {
        ErrorKind.COORDINATOR_NOT_AVAILABLE,
        ErrorKind.COORDINATOR_LOADING,
        ErrorKind.NOT_COORDINATOR,
        ErrorKind.CONCURRENT_TRANSACTIONS,
        ErrorKind.NOT_ENOUGH_REPLICAS,  # what a produce is told where the coordinator is not available
        ErrorKind.UNSTABLE_OFFSET_COMMIT,
        ErrorKind.STORAGE,
    }
)
FENCED: Final = frozenset(
    {
        ErrorKind.INVALID_PRODUCER_EPOCH,
        ErrorKind.PRODUCER_FENCED,
        ErrorKind.INVALID_PRODUCER_ID_MAPPING,
        ErrorKind.INVALID_TXN_STATE,
        ErrorKind.TRANSACTION_ABORTABLE,
        ErrorKind.UNKNOWN_PRODUCER_ID,
        ErrorKind.OUT_OF_ORDER_SEQUENCE,
    }
)


@dataclass(slots=True)
class Batch:
    """One batch, sent with the same bytes until it is acknowledged."""

    partition: PartitionId
    values: Sequence[str]
    bytes: bytes
    told: bool = False


@dataclass(slots=True)
class Step:
    """One thing that a transaction does: batches that go in one request, or an offset of its group."""

    wanted: Sequence[tuple[PartitionId, Sequence[str]]] = ()
    place: Place | None = None
    offset: int = -1
    batches: list[Batch] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    steps: list[Step]
    committed: bool
    impatient: bool = False  # it asks for the end while its last batches are under way


def encoded(now_ms: int, producer: Producer, sequence: int, values: Sequence[str]) -> bytes:
    records = [NewRecord(now_ms, value.encode(), value.encode()) for value in values]
    batch = build_batch(
        records,
        producer_id=producer.producer_id,
        producer_epoch=producer.epoch,
        base_sequence=sequence,
        transactional=True,
    )
    return bytes(batch)
