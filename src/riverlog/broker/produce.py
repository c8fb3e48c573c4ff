"""Produce: checks by the header alone, then one `append` for the whole request.

Invariants: the appends of one `Lane` (one connection) happen in the order of its requests, also where an earlier one had to be
looked into on a thread first, or its transaction had to be asked. Such a request keeps copies of its bytes; all others are
borrowed from the receive buffer and never copied. A transactional batch is appended in the same turn of the loop in which its
transaction admits it. What looks inside batches is in `broker/validation.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId
from riverlog.broker.telemetry import Telemetry
from riverlog.broker.topics import Topic
from riverlog.broker.transaction_requests import NotAllowedTransactional, produce_refusal
from riverlog.broker.transactions import Transactions
from riverlog.broker.validation import look, must_look
from riverlog.env.clock import Clock
from riverlog.env.executor import Executor
from riverlog.env.tasks import Tasks
from riverlog.records.batch import check_batch, only_batch
from riverlog.records.header import BatchHeader
from riverlog.state.access import Access, Caller, Operation, Resource, ResourceKind
from riverlog.state.transactions.commands import Number, Producer, Version
from riverlog.storage.contract import Acks, Append, Appended, LogEngine, Refused

admissions_max: Final = 3  # as often a request asks its transaction again

Outcome: TypeAlias = Appended | Refused
Outcomes: TypeAlias = Sequence[Outcome]


class Write(NamedTuple):
    """One batch for one partition, as it came: unchecked. Each partition at most once in a request."""

    topic: Topic
    partition: int
    records: bytes | bytearray | memoryview | None


class Lane:
    """The order of one connection's appends."""

    __slots__ = ("tail",)

    def __init__(self) -> None:
        self.tail: asyncio.Future[None] | None = None  # done when the last append that had to wait has its place


class _Checked(NamedTuple):
    outcomes: list[Outcome | None]
    appends: list[Append]
    places: list[int]
    looks: list[int]  # numbers of appends that must be looked into
    transactional: list[int]  # numbers of appends
    unadmitted: list[int]  # those of them that their transaction does not admit yet


class Transactional:
    """Under which transactional id a request writes, and what it knows of transactions: from `EPOCH_BUMPED` on a partition is
    added to the transaction by the write itself, before it has been added by a request of its own."""

    __slots__ = ("number", "transactional_id", "verify_only", "version")

    def __init__(self, transactional_id: str, version: Version, number: Number | None) -> None:
        self.transactional_id = transactional_id
        self.version = version
        self.verify_only = version < Version.EPOCH_BUMPED
        self.number = number if self.verify_only else None  # the transaction in which it came, where no epoch says that


class Producing:
    """Runs produce requests on an engine."""

    def __init__(
        self,
        engine: LogEngine,
        access: Access,
        clock: Clock,
        executor: Executor,
        tasks: Tasks,
        telemetry: Telemetry,
        transactions: Transactions,
        *,
        strict_replication: bool = False,
    ) -> None:
        self.engine = engine
        self.access = access
        self.clock = clock
        self.executor = executor
        self.tasks = tasks
        self.telemetry = telemetry
        self.transactions = transactions
        self.strict_replication = strict_replication

    def produce(
        self,
        caller: Caller,
        writes: Sequence[Write],
        acks: Acks,
        lane: Lane,
        transactional_id: str | None = None,
        version: Version = Version.PLAIN,
    ) -> Outcomes | Awaitable[Outcomes]:
        """The outcomes in the order of `writes`. Buffers are borrowed until this returns. Transactional batches need the
        transactional id; `version` says what the client knows of transactions."""
        checked = self._check(caller, writes, acks, transactional_id)
        if checked.looks or checked.unadmitted or lane.tail is not None:
            under = None
            if transactional_id is not None:
                under = Transactional(transactional_id, version, self.transactions.number(transactional_id))
            return self._in_turn(writes, checked, acks, lane, under)
        return self._append(writes, checked, acks)

    def _check(
        self, caller: Caller, writes: Sequence[Write], acks: Acks, transactional_id: str | None
    ) -> _Checked:
        outcomes: list[Outcome | None] = []
        appends: list[Append] = []
        places: list[int] = []
        looks: list[int] = []
        transactional: list[int] = []
        unadmitted: list[int] = []
        now_ms = self.clock.now_ms()
        allowed: tuple[str, bool] = ("", False)
        for place, (topic, index, records) in enumerate(writes):
            if topic.name != allowed[0]:
                resource = Resource(ResourceKind.TOPIC, topic.name)
                allowed = (topic.name, self.access.allows(caller, Operation.WRITE, resource))
            try:
                if not allowed[1]:
                    raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to write to topic {topic.name}")
                if not 0 <= index < topic.partition_count:
                    raise RiverlogError(
                        ErrorKind.UNKNOWN_TOPIC, f"topic {topic.name} has no partition {index}; refresh the metadata"
                    )
                if self.strict_replication and acks is Acks.ALL and topic.config.min_insync_replicas > 1:
                    raise _not_enough(topic)
                if records is None:
                    raise RiverlogError(ErrorKind.INVALID_RECORD, "no record batch was sent; send exactly one")
                header = only_batch(records)
                if header.size > topic.config.max_message_bytes:
                    raise RiverlogError(
                        ErrorKind.MESSAGE_TOO_LARGE,
                        f"a batch of {header.size} bytes for {topic.name}, whose max.message.bytes is "
                        f"{topic.config.max_message_bytes}; send smaller batches or raise it",
                    )
                check_batch(records, header)
                if header.is_transactional:
                    self._check_transactional(caller, transactional_id, transactional)
                    transactional.append(len(appends))
                    partition = PartitionId(topic.topic_id, index)
                    if not self.transactions.admits(transactional_id or "", _producer(header), partition):
                        unadmitted.append(len(appends))
                if must_look(header, topic.config, now_ms):
                    looks.append(len(appends))
            except RiverlogError as error:
                outcomes.append(Refused(error))
                continue
            outcomes.append(None)
            places.append(place)
            appends.append(Append(PartitionId(topic.topic_id, index), records, header))
        checked = _Checked(outcomes, appends, places, looks, transactional, unadmitted)
        if len(appends) > 1 and len({append.partition for append in appends}) < len(appends):
            return _without_repeated(checked)
        return checked

    def _check_transactional(self, caller: Caller, transactional_id: str | None, before: Sequence[int]) -> None:
        """Asked once a request. Raises NotAllowedTransactional."""
        if transactional_id is None:
            raise NotAllowedTransactional("transactional batches need the transactional.id in their request")
        resource = Resource(ResourceKind.TRANSACTIONAL_ID, transactional_id)
        if not before and not self.access.allows(caller, Operation.WRITE, resource):
            raise NotAllowedTransactional(f"{caller.principal} may not write under transactional id {transactional_id!r}")

    def _append(self, writes: Sequence[Write], checked: _Checked, acks: Acks) -> Outcomes | Awaitable[Outcomes]:
        appended = self.engine.append(checked.appends, acks) if checked.appends else ()
        if isinstance(appended, Sequence):
            return self._merge(writes, checked, appended)
        return self._later(writes, checked, appended)

    async def _later(
        self, writes: Sequence[Write], checked: _Checked, appended: Awaitable[Sequence[Outcome]]
    ) -> Outcomes:
        return self._merge(writes, checked, await appended)

    def _merge(self, writes: Sequence[Write], checked: _Checked, appended: Sequence[Outcome]) -> Outcomes:
        outcomes = checked.outcomes
        topic_counters = self.telemetry.topic
        for place, append, outcome in zip(checked.places, checked.appends, appended, strict=True):
            outcomes[place] = outcome
            counters = topic_counters(append.partition.topic_id)
            counters.produces += 1
            if type(outcome) is Appended:
                header = append.header
                counters.batches_in += 1
                counters.messages_in += header.record_count
                counters.bytes_in += header.length
            else:
                counters.failed_produces += 1
        if len(checked.places) < len(writes):
            for place in set(range(len(writes))).difference(checked.places):  # refused before the engine saw them
                counters = topic_counters(writes[place].topic.topic_id)
                counters.produces += 1
                counters.failed_produces += 1
        merged = [outcome for outcome in outcomes if outcome is not None]
        assert len(merged) == len(writes)
        return merged

    # what has to wait

    def _in_turn(
        self, writes: Sequence[Write], checked: _Checked, acks: Acks, lane: Lane, under: Transactional | None
    ) -> Awaitable[Outcomes]:
        """Copies what is borrowed, and appends when it is this request's turn."""
        for place, append in enumerate(checked.appends):
            checked.appends[place] = append._replace(batch=bytearray(append.batch))
        before = lane.tail
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.tail = mine
        waiting = self._wait_and_append(writes, checked, acks, lane, under, before, mine)
        return self.tasks.start(waiting, name="produce")

    async def _wait_and_append(
        self,
        writes: Sequence[Write],
        checked: _Checked,
        acks: Acks,
        lane: Lane,
        under: Transactional | None,
        before: asyncio.Future[None] | None,
        mine: asyncio.Future[None],
    ) -> Outcomes:
        try:
            looked = await self._look(writes, checked) if checked.looks else ()
            refusals: dict[int, RiverlogError] = {}
            if checked.unadmitted and under is not None:
                refusals = await self._admit(checked, checked.unadmitted, under)
            if before is not None:
                await asyncio.shield(before)
            if checked.transactional and under is not None:
                await self._admit_rest(checked, under, refusals)
            results: dict[int, Append | RiverlogError] = dict(zip(checked.looks, looked, strict=True))
            checked = _after(checked, results | refusals)
            outcome = self._append(writes, checked, acks)
        finally:
            mine.set_result(None)
            if lane.tail is mine:
                lane.tail = None
        return outcome if isinstance(outcome, Sequence) else await outcome

    async def _look(self, writes: Sequence[Write], checked: _Checked) -> Sequence[Append | RiverlogError]:
        configs = [writes[place].topic.config for place in checked.places]
        now_ms = self.clock.now_ms()
        jobs = [(checked.appends[number], configs[number]) for number in checked.looks]
        return await self.executor.run(lambda: [look(append, config, now_ms) for append, config in jobs])

    async def _admit(
        self, checked: _Checked, unadmitted: Sequence[int], under: Transactional
    ) -> dict[int, RiverlogError]:
        """Adds the partitions to the transaction, or asks whether they are in it. Gives refusals by number of append."""
        transactional_id, version = under.transactional_id, under.version
        by_producer: dict[Producer, list[int]] = {}
        for number in unadmitted:
            by_producer.setdefault(_producer(checked.appends[number].header), []).append(number)
        refusals: dict[int, RiverlogError] = {}
        for producer, numbers in by_producer.items():  # there is one, where the client is not mad
            partitions = [checked.appends[number].partition for number in numbers]
            try:
                result = await self.transactions.admit(
                    transactional_id, producer, partitions, version, under.verify_only
                )
            except RiverlogError as refusal:
                refusals |= dict.fromkeys(numbers, produce_refusal(refusal.kind, version, transactional_id))
                continue
            if under.verify_only and under.number is None:
                under.number = result.number
            elif under.verify_only and under.number != result.number:
                ended = produce_refusal(ErrorKind.INVALID_TXN_STATE, version, transactional_id)
                refusals |= dict.fromkeys(numbers, ended)
                continue
            for number, error in zip(numbers, result.errors, strict=True):
                if error is not None:
                    refusals[number] = produce_refusal(error, version, transactional_id)
        return refusals

    async def _admit_rest(
        self, checked: _Checked, under: Transactional, refusals: dict[int, RiverlogError]
    ) -> None:
        """Turns of the loop after the transaction was asked first, it may have been ended, or loaded again. All that is not
        refused is admitted when this returns, and the append comes in the same turn."""
        for _ in range(admissions_max):
            left = self._left(checked, under, refusals)
            if not left:
                return
            refusals |= await self._admit(checked, left, under)
        transactional_id, version = under.transactional_id, under.version
        for number in self._left(checked, under, refusals):
            refusals[number] = produce_refusal(ErrorKind.COORDINATOR_NOT_AVAILABLE, version, transactional_id)

    def _left(self, checked: _Checked, under: Transactional, refusals: Mapping[int, RiverlogError]) -> list[int]:
        def is_admitted(append: Append) -> bool:
            producer = _producer(append.header)
            return self.transactions.admits(under.transactional_id, producer, append.partition, under.number)

        return [
            number
            for number in checked.transactional
            if number not in refusals and not is_admitted(checked.appends[number])
        ]


def _producer(header: BatchHeader) -> Producer:
    return Producer(header.producer_id, header.producer_epoch)


def _not_enough(topic: Topic) -> RiverlogError:
    """Only where `riverlog.strict.replication` asks to be told; else more replicas than one are not counted."""
    return RiverlogError(
        ErrorKind.NOT_ENOUGH_REPLICAS,
        f"topic {topic.name} wants min.insync.replicas={topic.config.min_insync_replicas} and there is one replica: set it to 1, "
        "or the broker's riverlog.strict.replication to false",
    )


def _without_repeated(checked: _Checked) -> _Checked:
    """The same request without the batches of partitions that are in it more than once."""
    times = Counter(append.partition for append in checked.appends)
    error = RiverlogError(ErrorKind.INVALID_RECORD, "more than one batch for the partition in one request; send exactly one")
    refusals = {number: error for number, append in enumerate(checked.appends) if times[append.partition] > 1}
    return _after(checked, refusals)


def _after(checked: _Checked, results: Mapping[int, Append | RiverlogError]) -> _Checked:
    """The same request with some of its appends, by number, replaced or refused."""
    appends: list[Append] = []
    places: list[int] = []
    kept: dict[int, int] = {}  # old number -> new
    for number, (append, place) in enumerate(zip(checked.appends, checked.places, strict=True)):
        result = results.get(number, append)
        if isinstance(result, RiverlogError):
            checked.outcomes[place] = Refused(result)
        else:
            kept[number] = len(appends)
            appends.append(result)
            places.append(place)
    numbers = ([kept[number] for number in of if number in kept] for of in checked[3:])
    return _Checked(checked.outcomes, appends, places, *numbers)
