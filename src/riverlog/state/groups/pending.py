"""The offsets that open transactions have committed: the group's once the transaction is committed, gone if it is not.

One row a transaction and partition (docs/formats/group-rows.md). Invariant: of the offsets of one partition the one
that was *written* last wins, whatever the order in which their transactions end, as in Kafka: what is older than an
offset that counts can never count, and is forgotten at once.
Not here: what became of a transaction (its coordinator says), the committed offsets (`offsets.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from struct import Struct, error
from typing import Final, NamedTuple

from riverlog.base.errors import Corruption
from riverlog.base.ids import PartitionId, TopicId, topic_id_of_text, topic_id_text
from riverlog.state.groups.commands import CommittedOffset

PENDING_PREFIX: Final = "pending/"
FORMAT_VERSION: Final = 1

_HEAD: Final = Struct(">Bqqiqq")  # format, order, offset, leader epoch, commit time, expire time
assert _HEAD.size == 37

RowChanges = dict[str, bytes | None]


class TransactionName(NamedTuple):
    """A transaction: the `number`-th of its transactional id."""

    transactional_id: str
    number: int


class PendingOffset(NamedTuple):
    order: int  # among those of the group: a larger one was written later
    committed: CommittedOffset


def pending_key(transaction: TransactionName, partition: PartitionId) -> str:
    """The transactional id is last: it may be any text."""
    topic = topic_id_text(partition.topic_id)
    return f"{PENDING_PREFIX}{transaction.number}/{topic}/{partition.index}/{transaction.transactional_id}"


def names_of_key(key: str) -> tuple[TransactionName, PartitionId]:
    """Raises Corruption where the key is not one of `pending_key`."""
    try:
        number, topic, index, transactional_id = key[len(PENDING_PREFIX) :].split("/", 3)
        partition = PartitionId(TopicId(topic_id_of_text(topic)), int(index))
        return TransactionName(transactional_id, int(number)), partition
    except ValueError as cause:
        raise Corruption(key, 0, f"the key is not of a pending offset ({cause})") from cause


def encode_pending(pending: PendingOffset) -> bytes:
    offset, leader_epoch, metadata, commit_ms, expire_ms = pending.committed
    head = _HEAD.pack(FORMAT_VERSION, pending.order, offset, leader_epoch, commit_ms, expire_ms)
    return head + metadata.encode()


def decode_pending(key: str, value: bytes) -> PendingOffset:
    """Raises Corruption."""
    try:
        version, order, offset, leader_epoch, commit_ms, expire_ms = _HEAD.unpack_from(value)
        metadata = value[_HEAD.size :].decode()
    except error as cause:
        raise Corruption(key, 0, "the row is too short") from cause
    except UnicodeDecodeError as cause:
        raise Corruption(key, _HEAD.size, "the metadata is not UTF-8") from cause
    if version != FORMAT_VERSION:
        raise Corruption(key, 0, f"format {version} is not known here (a newer riverlog wrote it?)")
    return PendingOffset(order, CommittedOffset(offset, leader_epoch, metadata, commit_ms, expire_ms))


class PendingOffsets:
    """Of one group. Every change gives the rows to write."""

    def __init__(self) -> None:
        self._by_transaction: dict[TransactionName, dict[PartitionId, PendingOffset]] = {}
        self._by_partition: dict[PartitionId, set[TransactionName]] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._by_partition)

    def __contains__(self, partition: object) -> bool:
        return partition in self._by_partition

    def transactions(self) -> Sequence[TransactionName]:
        return list(self._by_transaction)

    def partitions(self) -> Collection[PartitionId]:
        return list(self._by_partition)

    def of(self, partition: PartitionId) -> Iterator[PendingOffset]:
        for transaction in self._by_partition.get(partition, ()):
            yield self._by_transaction[transaction][partition]

    def load(self, key: str, value: bytes) -> None:
        """One row. Raises Corruption."""
        transaction, partition = names_of_key(key)
        pending = decode_pending(key, value)
        self._put(transaction, partition, pending)
        self._order = max(self._order, pending.order)

    def commit(self, transaction: TransactionName, offsets: Mapping[PartitionId, CommittedOffset]) -> RowChanges:
        rows: RowChanges = {}
        for partition, committed in offsets.items():
            self._order += 1
            pending = PendingOffset(self._order, committed)
            self._put(transaction, partition, pending)
            rows[pending_key(transaction, partition)] = encode_pending(pending)
        return rows

    def take(self, transaction: TransactionName) -> tuple[RowChanges, Mapping[PartitionId, CommittedOffset]]:
        """The transaction was decided: the rows that go, and what it had; nothing where it is not known."""
        ended = self._by_transaction.get(transaction, {})
        offsets = {partition: pending.committed for partition, pending in ended.items()}
        rows: RowChanges = {}
        for partition in offsets:
            rows[pending_key(transaction, partition)] = None
            self._forget(transaction, partition)
        return rows, offsets

    def orders(self, transaction: TransactionName) -> Sequence[tuple[PartitionId, int]]:
        """The partitions of a transaction, and when it wrote them."""
        return [(partition, one.order) for partition, one in self._by_transaction.get(transaction, {}).items()]

    def supersede(self, partition: PartitionId, order: int | None = None) -> RowChanges:
        """Forgets what was written before `order` (None: before now) for that partition."""
        rows: RowChanges = {}
        for transaction in list(self._by_partition.get(partition, ())):
            if order is None or self._by_transaction[transaction][partition].order < order:
                rows[pending_key(transaction, partition)] = None
                self._forget(transaction, partition)
        return rows

    def cut(self, partition: PartitionId, log_end: int) -> RowChanges:
        """What lies beyond the end of the log is cut back to it."""
        rows: RowChanges = {}
        for transaction in self._by_partition.get(partition, ()):
            order, committed = self._by_transaction[transaction][partition]
            if committed.offset > log_end:
                pending = PendingOffset(order, committed._replace(offset=log_end, leader_epoch=-1))
                self._by_transaction[transaction][partition] = pending
                rows[pending_key(transaction, partition)] = encode_pending(pending)
        return rows

    def _put(self, transaction: TransactionName, partition: PartitionId, pending: PendingOffset) -> None:
        self._by_transaction.setdefault(transaction, {})[partition] = pending
        self._by_partition.setdefault(partition, set()).add(transaction)

    def _forget(self, transaction: TransactionName, partition: PartitionId) -> None:
        of_transaction = self._by_transaction[transaction]
        del of_transaction[partition]
        if not of_transaction:
            del self._by_transaction[transaction]
        transactions = self._by_partition[partition]
        transactions.discard(transaction)
        if not transactions:
            del self._by_partition[partition]
