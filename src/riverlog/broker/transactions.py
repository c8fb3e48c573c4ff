"""Transactions: what may be asked of them, in words that no protocol owns.

Every method takes a `Caller` first and asks `Access`. What concerns a whole request raises `RiverlogError`: UNAUTHORIZED,
what the machine of the transactional id refused, and that there is no machine to ask now (COORDINATOR_NOT_AVAILABLE,
NOT_COORDINATOR).

Invariant: a batch is admitted while its partition is durably in the producer's open transaction and no end of that was
asked for; who appends asks `admits` in the same turn of the loop, so that nothing can be decided in between. What an older
client sends, whose epoch stays from one transaction to the next, counts for the transaction in which it came, however long
it waits here.
Not here: the rules of transactions (`state/transactions`), their machines and markers (`transaction_machines.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, ProducerId, TopicName
from riverlog.base.limits import kept_text_length_max
from riverlog.broker.group_requests import KnownTopics, MemberAsked, TopicCommit
from riverlog.broker.producer_ids import ProducerIds
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.telemetry import TransactionCounters
from riverlog.broker.transaction_machines import Admitted, PendingOffsets, TransactionMachines
from riverlog.broker.transaction_requests import Described, GroupRefused, Listed, refused, whole_match
from riverlog.catalog.contract import Catalog, CatalogUnavailable
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.state.access import CLUSTER, Access, Caller, Operation, Resource, ResourceKind
from riverlog.state.transactions.commands import (
    Add,
    AddResult,
    Describe,
    Description,
    End,
    Init,
    LookUp,
    Number,
    Outcome,
    Producer,
    ProducerResult,
    TransactionSettings,
    TransactionState,
    Verify,
    Version,
)
from riverlog.storage.contract import EndMarker, LogEngine, Refused

if TYPE_CHECKING:
    from riverlog.broker.produce import Producing
    from riverlog.broker.transaction_session import TransactionSession

T = TypeVar("T")

epoch_near_end: Final = 2**15 - 1 - 16  # from there on an end brings a fresh producer id along
asked_at_a_time_max: Final = 100  # ids of one request that describes them
NOBODY: Final = Producer()
NO_FRESH_ID: Final = ProducerId(-1)


class Groups(PendingOffsets, Protocol):
    """What transactions want of the coordinator of groups."""

    async def commit_pending(
        self,
        caller: Caller,
        group_id: str,
        transactional_id: str,
        number: int,
        member: MemberAsked,
        topics: Sequence[TopicCommit],
        still_open: Callable[[], bool],
    ) -> Sequence[Sequence[ErrorKind | None]]: ...


class Transactions:
    def __init__(
        self,
        *,
        settings: BrokerSettings,
        catalog: Catalog,
        engine: LogEngine,
        topics: KnownTopics,
        groups: Groups,
        producer_ids: ProducerIds,
        clock: Clock,
        entropy: Entropy,
        access: Access,
        counters: TransactionCounters,
    ) -> None:
        self.settings = TransactionSettings(
            timeout_ms_max=settings.transaction_timeout_ms_max,
            expiration_ms=settings.transactional_id_expiration_ms,
        )
        self.producing: Producing | None = None  # what sessions append with
        self._engine = engine
        self._topics = topics
        self._groups = groups
        self._producer_ids = producer_ids
        self._clock = clock
        self._access = access
        self._machines = TransactionMachines(self.settings, catalog, engine, groups, clock, entropy, counters)

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Loads what there is in the background, so that time-outs run and decisions that a crash cut short are finished."""
        self._machines.tasks.start(self._machines.load_at_start(), name="load")

    async def close(self) -> None:
        """Finishes the commits in flight; markers that are missing are written by the next start."""
        await self._machines.close()

    # ------------------------------------------------------------------ producers

    async def init(
        self, caller: Caller, transactional_id: str, timeout_ms: int, expected: Producer = NOBODY
    ) -> Producer:
        """A new epoch of the id, once an open transaction of the one before is aborted."""
        self._check(caller, Operation.WRITE, transactional_id)
        token = self._machines.token()
        init = Init(token, timeout_ms, expected, await self._fresh_id())
        result: ProducerResult = await self._machines.ask(transactional_id, init, token)
        if result.error is not None:
            raise refused(result.error, transactional_id)
        return result.producer

    async def add_partitions(
        self,
        caller: Caller,
        transactional_id: str,
        producer: Producer,
        partitions: Sequence[tuple[str, int]],
        version: Version,
        verify_only: bool = False,
    ) -> Sequence[ErrorKind | None]:
        """One error a partition, in the order of the request. Where one may not be added, none is."""
        self._check(caller, Operation.WRITE, transactional_id)
        found = [self._partition(caller, name, index) for name, index in partitions]
        if any(isinstance(one, ErrorKind) for one in found):
            not_tried = ErrorKind.OPERATION_NOT_ATTEMPTED
            return [one if isinstance(one, ErrorKind) else not_tried for one in found]
        wanted = [one for one in found if not isinstance(one, ErrorKind)]
        return (await self.admit(transactional_id, producer, wanted, version, verify_only)).errors

    async def admit(
        self,
        transactional_id: str,
        producer: Producer,
        partitions: Sequence[PartitionId],
        version: Version,
        verify_only: bool = False,
    ) -> AddResult:
        """Of partitions that the caller may write to, under an id that the caller may use. Raises what was refused."""
        command = Verify(self._machines.token(), producer, partitions)
        result = await self._ask_add(
            transactional_id, command if verify_only else Add(*command[:2], version, partitions)
        )
        admitted = self._machines.admitted.get(transactional_id)
        if admitted is None or admitted.number < result.number:
            admitted = self._machines.admitted[transactional_id] = Admitted(result.number, set())
        if admitted.number == result.number:
            errors = result.errors or [None] * len(partitions)
            admitted.partitions.update(
                partition for partition, error in zip(partitions, errors, strict=True) if error is None
            )
        return result

    def number(self, transactional_id: str) -> Number | None:
        """The transaction that is open now, or was last; None: nobody can say without waiting."""
        runner = self._machines.runners.get(transactional_id)
        return runner.machine.number if runner is not None and runner.refusal is None else None

    def admits(
        self, transactional_id: str, producer: Producer, partition: PartitionId, number: Number | None = None
    ) -> bool:
        """Whether a batch of the producer for that partition may be appended in this turn of the loop: one of transaction
        `number`, None: of the one that is open."""
        admitted = self._machines.admitted.get(transactional_id)
        if admitted is None or partition not in admitted.partitions or number not in (None, admitted.number):
            return False
        runner = self._machines.runners.get(transactional_id)
        return (
            runner is not None
            and runner.refusal is None
            and runner.machine.open_number() == admitted.number
            and runner.machine.admits(producer, partition)
        )

    async def add_group(
        self, caller: Caller, transactional_id: str, producer: Producer, group_id: str, version: Version
    ) -> None:
        self._check(caller, Operation.WRITE, transactional_id)
        self._check_group(caller, group_id)
        await self._ask_add(transactional_id, Add(self._machines.token(), producer, version, groups=[group_id]))

    async def commit_offsets(
        self,
        caller: Caller,
        transactional_id: str,
        producer: Producer,
        version: Version,
        group_id: str,
        member: MemberAsked,
        topics: Sequence[TopicCommit],
    ) -> Sequence[Sequence[ErrorKind | None]]:
        """Offsets that count when the transaction is committed. One error a partition, in the order of the request."""
        self._check(caller, Operation.WRITE, transactional_id)
        self._check_group(caller, group_id)
        token = self._machines.token()
        command: Add | Verify = Verify(token, producer, groups=[group_id])
        came_in = self.number(transactional_id)
        if version >= Version.EPOCH_BUMPED:
            command, came_in = Add(token, producer, version, groups=[group_id]), None
        number, (error,) = (await self._ask_add(transactional_id, command))[1:]
        if came_in not in (None, number):  # the epoch is the same in the transaction that was begun while it waited
            raise refused(ErrorKind.INVALID_TXN_STATE, transactional_id)
        if error is not None:
            raise refused(error, transactional_id)

        def still_open() -> bool:
            runner = self._machines.runners.get(transactional_id)
            return runner is not None and runner.refusal is None and runner.machine.open_number() == number

        return await self._groups.commit_pending(
            caller, group_id, transactional_id, number, member, topics, still_open
        )

    async def end(
        self, caller: Caller, transactional_id: str, producer: Producer, committed: bool, version: Version
    ) -> Producer:
        """Returns when the end is decided, durably; the producer of the next transaction."""
        self._check(caller, Operation.WRITE, transactional_id)
        fresh_id = await self._fresh_id() if producer.epoch >= epoch_near_end else NO_FRESH_ID
        token = self._machines.token()
        end = End(token, producer, version, committed, fresh_id)
        result: ProducerResult = await self._machines.ask(transactional_id, end, token)
        if result.error is not None:
            raise refused(result.error, transactional_id)
        return result.producer

    async def outcome(self, transactional_id: str, number: int) -> Outcome:
        """What became of a transaction, for those who keep something of it; never waits for its markers."""
        token = self._machines.token()
        outcome: Outcome = await self._machines.ask(transactional_id, LookUp(token, Number(number)), token)
        return outcome

    async def session(self, caller: Caller, transactional_id: str, timeout_ms: int) -> TransactionSession:
        """A producer in this process, which takes the id over from whoever used it before."""
        from riverlog.broker.transaction_session import TransactionSession

        assert self.producing is not None
        producer = await self.init(caller, transactional_id, timeout_ms)
        return TransactionSession(self, self.producing, self._topics, caller, transactional_id, timeout_ms, producer)

    # ------------------------------------------------------------------ for people

    async def describe(self, caller: Caller, transactional_ids: Sequence[str]) -> Sequence[Described]:
        return await _some_at_a_time(transactional_ids, lambda one: self._describe(caller, one))

    async def list(
        self,
        caller: Caller,
        states: Collection[TransactionState] = (),
        producer_ids: Collection[int] = (),
        duration_ms: int = -1,
        pattern: str | None = None,
    ) -> Sequence[Listed]:
        """Those that the caller may see, by id. Empty filters let all through; `duration_ms`: only those whose transaction
        has been open for longer. Raises INVALID_REGULAR_EXPRESSION; a pattern must match the whole id."""
        matches = whole_match(pattern)
        await self._machines.load_all()
        ids = sorted(
            one for one in self._machines.runners if matches(one) and self._allows(caller, Operation.DESCRIBE, one)
        )
        now_ms = self._clock.now_ms()
        listed = []
        for transactional_id, found in zip(ids, await _some_at_a_time(ids, self._description), strict=True):
            if (
                found.error is None
                and found.state is not TransactionState.DEAD
                and (not states or found.state in states)
                and (not producer_ids or found.producer.producer_id in producer_ids)
                and (duration_ms < 0 or (found.start_ms >= 0 and now_ms - found.start_ms > duration_ms))
            ):
                listed.append(Listed(transactional_id, found.producer.producer_id, found.state))
        return listed

    async def write_markers(
        self, caller: Caller, markers: Sequence[tuple[str, int, Producer, bool, int]]
    ) -> Sequence[RiverlogError | None]:
        """Ends transactions by hand, past their coordinator: topic, partition, producer, committed and coordinator epoch of
        each. For an operator who finds one that hangs."""
        if not any(self._access.allows(caller, one, CLUSTER) for one in (Operation.ALTER, Operation.CLUSTER_ACTION)):
            raise RiverlogError(ErrorKind.UNAUTHORIZED, f"{caller.principal} may not end the transactions of others")
        ends: list[EndMarker] = []
        outcomes: list[RiverlogError | None] = [None] * len(markers)
        places = []
        for place, (name, index, producer, committed, coordinator_epoch) in enumerate(markers):
            topic = self._topics.by_name.get(TopicName(name))
            if topic is None or not 0 <= index < topic.partition_count:
                outcomes[place] = RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"there is no partition {index} of topic {name}")
                continue
            partition = PartitionId(topic.topic_id, index)
            producer_id, epoch = producer
            ends.append(EndMarker(partition, ProducerId(producer_id), epoch, committed, coordinator_epoch))
            places.append(place)
        written = await self._engine.end_transactions(ends) if ends else ()
        for place, outcome in zip(places, written, strict=True):
            outcomes[place] = outcome.error if isinstance(outcome, Refused) else None
        return outcomes

    def open_count(self) -> int:
        """How many transactions are open, of the ids that are loaded."""
        return sum(runner.machine.open_number() is not None for runner in list(self._machines.runners.values()))

    async def _describe(self, caller: Caller, transactional_id: str) -> Described:
        try:
            self._check(caller, Operation.DESCRIBE, transactional_id)
            found = await self._description(transactional_id)
        except RiverlogError as refusal:
            return Described(transactional_id, refusal.kind)
        if found.error is not None:
            return Described(transactional_id, found.error)
        topics: dict[str, list[int]] = {}
        for partition in found.partitions:
            topic = self._topics.by_id.get(partition.topic_id)
            if topic is not None and self._access.allows(
                caller, Operation.DESCRIBE, Resource(ResourceKind.TOPIC, topic.name)
            ):
                topics.setdefault(topic.name, []).append(partition.index)
        return Described(
            transactional_id, None, found.state, found.producer, found.timeout_ms, found.start_ms, topics
        )

    async def _description(self, transactional_id: str) -> Description:
        token = self._machines.token()
        description: Description = await self._machines.ask(transactional_id, Describe(token), token)
        return description

    # ------------------------------------------------------------------ asking

    async def _ask_add(self, transactional_id: str, command: Add | Verify) -> AddResult:
        result: AddResult = await self._machines.ask(transactional_id, command, command.token)
        if result.error is not None:
            raise refused(result.error, transactional_id)
        return result

    async def _fresh_id(self) -> ProducerId:
        try:
            return await self._producer_ids.take()
        except CatalogUnavailable as cause:
            message = f"no producer id can be given out now, ask again: {cause}"
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from cause

    def _allows(self, caller: Caller, operation: Operation, transactional_id: str) -> bool:
        return self._access.allows(caller, operation, Resource(ResourceKind.TRANSACTIONAL_ID, transactional_id))

    def _check(self, caller: Caller, operation: Operation, transactional_id: str) -> None:
        if not self._allows(caller, operation, transactional_id):
            message = f"{caller.principal} may not {operation.name} under transactional id {transactional_id!r}"
            raise RiverlogError(ErrorKind.UNAUTHORIZED, message)
        if not 0 < len(transactional_id) <= kept_text_length_max:
            raise RiverlogError(
                ErrorKind.INVALID_REQUEST, f"a transactional id has 1 to {kept_text_length_max} characters"
            )

    def _check_group(self, caller: Caller, group_id: str) -> None:
        if not self._access.allows(caller, Operation.READ, Resource(ResourceKind.GROUP, group_id)):
            raise GroupRefused(f"{caller.principal} may not READ group {group_id!r}")
        if not group_id:
            raise RiverlogError(ErrorKind.INVALID_GROUP_ID, "offsets are committed for a group: name it")

    def _partition(self, caller: Caller, name: str, index: int) -> PartitionId | ErrorKind:
        if not self._access.allows(caller, Operation.WRITE, Resource(ResourceKind.TOPIC, name)):
            return ErrorKind.UNAUTHORIZED
        topic = self._topics.by_name.get(TopicName(name))
        if topic is None or not 0 <= index < topic.partition_count:
            return ErrorKind.UNKNOWN_TOPIC
        return PartitionId(topic.topic_id, index)


async def _some_at_a_time(names: Sequence[str], ask: Callable[[str], Coroutine[Any, Any, T]]) -> list[T]:
    """The answers in order; not all of a long list are asked beside each other."""
    answers: list[T] = []
    for first in range(0, len(names), asked_at_a_time_max):
        answers += await asyncio.gather(*map(ask, names[first : first + asked_at_a_time_max]))
    return answers
