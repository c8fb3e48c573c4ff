"""Produce: checks by the header alone, then one `append` for the whole request.

Invariant: the appends of one `Lane` (one connection) happen in the order of its requests, also where an earlier one had to be
looked into on a thread first. Such a request keeps copies of its bytes; all others are borrowed from the receive buffer and
never copied. What looks inside batches is in `broker/validation.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import NamedTuple, TypeAlias

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId
from riverlog.broker.telemetry import Telemetry
from riverlog.broker.topics import Topic
from riverlog.broker.validation import look, must_look
from riverlog.env.clock import Clock
from riverlog.env.executor import Executor
from riverlog.env.tasks import Tasks
from riverlog.records.batch import check_batch, only_batch
from riverlog.state.access import Access, Caller, Operation, Resource, ResourceKind
from riverlog.storage.contract import Acks, Append, Appended, LogEngine, Refused

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
    looks: list[int]  # places of appends that must be looked into


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
        *,
        strict_replication: bool = False,
    ) -> None:
        self.engine = engine
        self.access = access
        self.clock = clock
        self.executor = executor
        self.tasks = tasks
        self.telemetry = telemetry
        self.strict_replication = strict_replication

    def produce(
        self, caller: Caller, writes: Sequence[Write], acks: Acks, lane: Lane
    ) -> Outcomes | Awaitable[Outcomes]:
        """The outcomes in the order of `writes`. Buffers are borrowed until this returns."""
        checked = self._check(caller, writes, acks)
        if checked.looks or lane.tail is not None:
            return self._in_turn(writes, checked, acks, lane)
        return self._append(writes, checked, acks)

    def _check(self, caller: Caller, writes: Sequence[Write], acks: Acks) -> _Checked:
        outcomes: list[Outcome | None] = []
        appends: list[Append] = []
        places: list[int] = []
        looks: list[int] = []
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
                    raise RiverlogError(ErrorKind.INVALID_TXN_STATE, "transactions are not served yet")
                if must_look(header, topic.config, now_ms):
                    looks.append(len(appends))
            except RiverlogError as error:
                outcomes.append(Refused(error))
                continue
            outcomes.append(None)
            places.append(place)
            appends.append(Append(PartitionId(topic.topic_id, index), records, header))
        checked = _Checked(outcomes, appends, places, looks)
        if len(appends) > 1 and len({append.partition for append in appends}) < len(appends):
            return _without_repeated(checked)
        return checked

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

    def _in_turn(self, writes: Sequence[Write], checked: _Checked, acks: Acks, lane: Lane) -> Awaitable[Outcomes]:
        """Copies what is borrowed, and appends when it is this request's turn."""
        for place, append in enumerate(checked.appends):
            checked.appends[place] = append._replace(batch=bytearray(append.batch))
        before = lane.tail
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.tail = mine
        return self.tasks.start(self._look_and_append(writes, checked, acks, lane, before, mine), name="produce")

    async def _look_and_append(
        self,
        writes: Sequence[Write],
        checked: _Checked,
        acks: Acks,
        lane: Lane,
        before: asyncio.Future[None] | None,
        mine: asyncio.Future[None],
    ) -> Outcomes:
        try:
            configs = [writes[place].topic.config for place in checked.places]
            now_ms = self.clock.now_ms()
            jobs = [(checked.appends[place], configs[place]) for place in checked.looks]
            looked = await self.executor.run(lambda: [look(append, config, now_ms) for append, config in jobs])
            if before is not None:
                await asyncio.shield(before)
            checked = _after_looks(checked, looked)
            outcome = self._append(writes, checked, acks)
        finally:
            mine.set_result(None)
            if lane.tail is mine:
                lane.tail = None
        return outcome if isinstance(outcome, Sequence) else await outcome


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
    looks = set(checked.looks)
    left = _Checked(checked.outcomes, [], [], [])
    for number, (append, place) in enumerate(zip(checked.appends, checked.places, strict=True)):
        if times[append.partition] > 1:
            checked.outcomes[place] = Refused(error)
            continue
        if number in looks:
            left.looks.append(len(left.appends))
        left.appends.append(append)
        left.places.append(place)
    return left


def _after_looks(checked: _Checked, looked: Sequence[Append | RiverlogError]) -> _Checked:
    """The same request without the batches that were refused by a look."""
    results = dict(zip(checked.looks, looked, strict=True))
    appends: list[Append] = []
    places: list[int] = []
    for number, (append, place) in enumerate(zip(checked.appends, checked.places, strict=True)):
        result = results.get(number, append)
        if isinstance(result, RiverlogError):
            checked.outcomes[place] = Refused(result)
        else:
            appends.append(result)
            places.append(place)
    return _Checked(checked.outcomes, appends, places, [])
