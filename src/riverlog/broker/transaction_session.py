"""A transactional producer inside this process: begin, append, commit offsets, and commit or abort, without a protocol.

    session = await broker.transactions.session(caller, "orders-loader", timeout_ms=60_000)
    session.begin()
    await session.append([Records("orders", 0, [NewRecord(now_ms, b"k", b"v")])])
    await session.commit_offsets("loader", [TopicCommit("input", None, [PartitionCommit(0, 42)])])
    await session.commit()

Invariant: one transaction at a time, and one call at a time. What failed while a transaction was open is remembered: `commit`
raises it again, and only `abort` goes on; but for an end in doubt, which is asked again. Whoever takes the transactional id
over fences this session: every call raises PRODUCER_FENCED or INVALID_PRODUCER_EPOCH then, and the session is of no more use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicName
from riverlog.broker.group_requests import KnownTopics, MemberAsked, TopicCommit
from riverlog.broker.produce import Lane, Producing, Write
from riverlog.broker.topics import Topic
from riverlog.broker.transactions import Transactions
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import Caller
from riverlog.state.transactions.commands import Producer, Version
from riverlog.storage.contract import Acks, Appended, Refused

NOBODY: Final = MemberAsked()
# An end that was refused with one of these may have been decided all the same: asked again it is recognised.
NOT_KNOWN: Final = frozenset(
    {
        ErrorKind.CONCURRENT_TRANSACTIONS,
        ErrorKind.COORDINATOR_LOADING,
        ErrorKind.COORDINATOR_NOT_AVAILABLE,
        ErrorKind.NOT_COORDINATOR,
    }
)
_SEQUENCES: Final = 2**31  # after the last comes 0


class Records(NamedTuple):
    """Records for one partition, which become one batch. Each partition at most once in an `append`."""

    topic: str
    partition: int
    records: Sequence[NewRecord]


class TransactionSession:
    def __init__(
        self,
        transactions: Transactions,
        producing: Producing,
        topics: KnownTopics,
        caller: Caller,
        transactional_id: str,
        timeout_ms: int,
        producer: Producer,
    ) -> None:
        self.transactional_id = transactional_id
        self.producer = producer
        self._transactions = transactions
        self._producing = producing
        self._topics = topics
        self._caller = caller
        self._timeout_ms = timeout_ms
        self._lane = Lane()
        self._sequences: dict[tuple[str, int], int] = {}  # the next of each partition, under the current epoch
        self._is_open = False
        self._is_begun = False  # the coordinator may know of it
        self._failure: RiverlogError | None = None

    @property
    def is_open(self) -> bool:
        return self._is_open

    def begin(self) -> None:
        """Raises INVALID_TXN_STATE where a transaction is open. Nothing is asked of anybody yet."""
        if self._is_open:
            raise RiverlogError(ErrorKind.INVALID_TXN_STATE, "a transaction is open: commit or abort it first")
        self._is_open = True
        self._is_begun = False
        self._failure = None

    async def append(self, records: Sequence[Records]) -> Sequence[Appended]:
        """Returns when they are in the log: durable at the latest at `commit`. Raises the first refusal; then abort."""
        self._check_open()
        self._is_begun = True
        with _Remembered(self):
            writes = [self._write(*one) for one in records]
            outcomes = self._producing.produce(
                self._caller, writes, Acks.LEADER, self._lane, self.transactional_id, Version.EPOCH_BUMPED
            )
            appended = []
            for outcome in outcomes if isinstance(outcomes, Sequence) else await outcomes:
                if isinstance(outcome, Refused):
                    raise outcome.error
                appended.append(outcome)
            return appended

    async def commit_offsets(
        self, group_id: str, topics: Sequence[TopicCommit], member: MemberAsked = NOBODY
    ) -> None:
        """Offsets that become the group's with this transaction. Raises the first refusal; then abort."""
        self._check_open()
        self._is_begun = True
        with _Remembered(self):
            errors = await self._transactions.commit_offsets(
                self._caller, self.transactional_id, self.producer, Version.EPOCH_BUMPED, group_id, member, topics
            )
            for topic, of_topic in zip(topics, errors, strict=True):
                for error in of_topic:
                    if error is not None:
                        raise RiverlogError(error, f"the offsets of {topic.name} for group {group_id!r} were refused")

    async def commit(self) -> None:
        """Returns when everything of the transaction is durable and decided. Raises TRANSACTION_ABORTABLE where only
        `abort` is left, and what was refused before. After what is in `NOT_KNOWN`, and where the call was cancelled,
        commit again: it may have been decided."""
        self._check_open()
        await self._end(committed=True)

    async def abort(self) -> None:
        """Nothing of the transaction will ever be seen by a reader of committed records. Nothing where none is open.
        Raises INVALID_TXN_STATE where a commit whose answer was lost has decided it: commit again."""
        if self._is_open:
            await self._end(committed=False)

    async def _end(self, *, committed: bool) -> None:
        if self._is_begun:
            try:
                producer = await self._transactions.end(
                    self._caller, self.transactional_id, self.producer, committed, Version.EPOCH_BUMPED
                )
            except RiverlogError as refusal:
                if committed and refusal.kind not in NOT_KNOWN:
                    self._failure = refusal
                raise
            if producer != self.producer:
                self.producer = producer
                self._sequences.clear()
        self._is_open = False

    def _write(self, name: str, partition: int, records: Sequence[NewRecord]) -> Write:
        topic = self._topics.by_name.get(TopicName(name))
        if not isinstance(topic, Topic):
            raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no topic {name}; create it first")
        sequence = self._sequences.get((name, partition), 0)
        self._sequences[name, partition] = (sequence + len(records)) % _SEQUENCES
        producer_id, epoch = self.producer
        batch = build_batch(
            records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, transactional=True
        )
        return Write(topic, partition, batch)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RiverlogError(ErrorKind.INVALID_TXN_STATE, "no transaction is open: begin one")
        if self._failure is not None:
            raise RiverlogError(self._failure.kind, self._failure.message)


class _Remembered:
    """A failure inside leaves nothing but `abort`: whether all of it reached the log is not known."""

    def __init__(self, session: TransactionSession) -> None:
        self._session = session

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RiverlogError):
            self._session._failure = error
        elif isinstance(error, asyncio.CancelledError):
            self._session._failure = RiverlogError(
                ErrorKind.TRANSACTION_ABORTABLE, "a call of the transaction was cancelled: abort it"
            )
