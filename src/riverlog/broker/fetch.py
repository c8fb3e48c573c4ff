"""Fetch: a whole request under one budget, and the long poll. A parked fetch holds a subscription and a timer and no buffer;
it reads again only when one of its partitions moved, and is dropped with its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicName
from riverlog.broker.telemetry import Telemetry
from riverlog.state.access import Access, Caller, Operation, Resource, ResourceKind
from riverlog.storage.contract import (
    NO_SLICES,
    EpochEnd,
    Fetched,
    FetchedPartition,
    Isolation,
    LogEngine,
    Read,
    Subscription,
)


class FetchRead(NamedTuple):
    """One partition of a fetch. Epochs are -1 where the client did not say."""

    name: TopicName
    partition: PartitionId
    offset: Offset
    bytes_max: int
    leader_epoch: int = -1
    last_fetched_epoch: int = -1


class Answer(NamedTuple):
    """In the order of the reads. `diverging` is set where the client's last epoch ended before its offset."""

    partitions: Sequence[FetchedPartition]
    diverging: dict[int, EpochEnd]
    size: int

    def close(self) -> None:
        for partition in self.partitions:
            partition.slices.close()


NO_OFFSET = Offset(-1)


def refused(error: RiverlogError) -> FetchedPartition:
    return FetchedPartition(NO_SLICES, NO_OFFSET, NO_OFFSET, NO_OFFSET, None, error)


class Fetching:
    """Runs fetches on an engine."""

    def __init__(self, engine: LogEngine, access: Access, telemetry: Telemetry) -> None:
        self.engine = engine
        self.access = access
        self.telemetry = telemetry
        self.parked: set[_Parked] = set()

    def fetch(
        self,
        caller: Caller,
        reads: Sequence[FetchRead],
        *,
        bytes_min: int,
        bytes_max: int,
        wait_ms: int,
        isolation: Isolation,
    ) -> Answer | Awaitable[Answer]:
        """The answer at once where there is enough, an error, or nothing to wait for; else a future, done within `wait_ms`.
        Whoever gets the answer closes it. Cancelling the future ends the wait."""
        checked = self._check(caller, reads)
        if checked.live:
            outcome = self.engine.read(checked.live, bytes_max, isolation)
        else:
            outcome = Fetched((), 0)
        if not isinstance(outcome, Fetched):
            return self._parked(checked, bytes_min, bytes_max, wait_ms, isolation, outcome)
        answer = checked.answer(outcome)
        if wait_ms <= 0 or not reads or _is_enough(answer, bytes_min):
            self._count(reads, answer)
            return answer
        answer.close()
        return self._parked(checked, bytes_min, bytes_max, wait_ms, isolation, None)

    def _parked(
        self,
        checked: _Checked,
        bytes_min: int,
        bytes_max: int,
        wait_ms: int,
        isolation: Isolation,
        reading: Awaitable[Fetched] | None,
    ) -> asyncio.Future[Answer]:
        parked = _Parked(self, checked, bytes_min, bytes_max, isolation)
        parked.start(wait_ms, reading)
        return parked.future

    def close(self) -> None:
        """Ends all waits with what there is."""
        for parked in list(self.parked):
            parked.time_out()

    def _check(self, caller: Caller, reads: Sequence[FetchRead]) -> _Checked:
        """Refuses what needs no read: access, epochs."""
        live: list[Read] = []
        places: list[int] = []
        refusals: dict[int, FetchedPartition] = {}
        diverging: dict[int, EpochEnd] = {}
        allowed: dict[TopicName, bool] = {}
        for place, read in enumerate(reads):
            name = read.name
            if name not in allowed:
                allowed[name] = self.access.allows(caller, Operation.READ, Resource(ResourceKind.TOPIC, name))
            if not allowed[name]:
                refusals[place] = refused(RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to read topic {name}"))
                continue
            if read.leader_epoch >= 0 or read.last_fetched_epoch >= 0:
                try:
                    end = self._check_epochs(read)
                except RiverlogError as error:
                    refusals[place] = refused(error)
                    continue
                if end is not None:
                    diverging[place] = end
                    marks = self.engine.watermarks(read.partition)
                    refusals[place] = FetchedPartition(
                        NO_SLICES, marks.high_watermark, marks.last_stable_offset, marks.log_start
                    )
                    continue
            live.append(Read(read.partition, read.offset, read.bytes_max))
            places.append(place)
        return _Checked(reads, live, places, refusals, diverging)

    def _check_epochs(self, read: FetchRead) -> EpochEnd | None:
        check_leader_epoch(self.engine, read.partition, read.leader_epoch)
        if read.last_fetched_epoch < 0:
            return None
        end = self.engine.epoch_end(read.partition, read.last_fetched_epoch)
        if end.leader_epoch < read.last_fetched_epoch or end.end_offset < read.offset:
            return end
        return None

    def _count(self, reads: Sequence[FetchRead], answer: Answer) -> None:
        for read, partition in zip(reads, answer.partitions, strict=True):
            counters = self.telemetry.topic(read.partition.topic_id)
            counters.fetches += 1
            counters.bytes_out += partition.slices.size
            if partition.error is not None:
                counters.failed_fetches += 1


def check_leader_epoch(engine: LogEngine, partition: PartitionId, leader_epoch: int) -> None:
    """Raises FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH where the client's view is older or newer than ours."""
    if leader_epoch < 0:
        return
    current = engine.watermarks(partition).leader_epoch
    if leader_epoch < current:
        raise RiverlogError(
            ErrorKind.FENCED_LEADER_EPOCH, f"leader epoch {leader_epoch} is older than {current}; refresh the metadata"
        )
    if leader_epoch > current:
        raise RiverlogError(ErrorKind.UNKNOWN_LEADER_EPOCH, f"leader epoch {leader_epoch} is newer than {current}")


def _is_enough(answer: Answer, bytes_min: int) -> bool:
    if answer.size >= bytes_min or answer.diverging:
        return True
    return any(partition.error is not None for partition in answer.partitions)


class _Checked(NamedTuple):
    reads: Sequence[FetchRead]
    live: Sequence[Read]
    places: Sequence[int]
    refusals: dict[int, FetchedPartition]
    diverging: dict[int, EpochEnd]

    def answer(self, fetched: Fetched) -> Answer:
        if not self.refusals:
            return Answer(fetched.partitions, self.diverging, fetched.size)
        partitions = [self.refusals.get(place) for place in range(len(self.reads))]
        for place, partition in zip(self.places, fetched.partitions, strict=True):
            partitions[place] = partition
        return Answer([partition for partition in partitions if partition is not None], self.diverging, fetched.size)


class _Parked:
    """One fetch that waits. Invariant: `future` is done at most once, and from then on nothing of it is left anywhere."""

    __slots__ = (
        "bytes_max", "bytes_min", "checked", "fetching", "future", "isolation", "loop", "reading", "subscription", "timer",
        "woken",
    )  # fmt: skip

    def __init__(
        self, fetching: Fetching, checked: _Checked, bytes_min: int, bytes_max: int, isolation: Isolation
    ) -> None:
        self.fetching = fetching
        self.checked = checked
        self.bytes_min = bytes_min
        self.bytes_max = bytes_max
        self.isolation = isolation
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Answer] = self.loop.create_future()
        self.subscription: Subscription | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.reading: asyncio.Future[Fetched] | None = None
        self.woken = False  # a read is due, or something moved while one ran

    def start(self, wait_ms: int, reading: Awaitable[Fetched] | None) -> None:
        fetching = self.fetching
        fetching.parked.add(self)
        self.future.add_done_callback(self._ended)
        partitions = [read.partition for read in self.checked.live]
        if wait_ms > 0:
            if partitions:
                try:
                    self.subscription = fetching.engine.subscribe(partitions, self.wake)
                except RiverlogError:  # one of them has just gone: the next read says which
                    self.wake()
            self.timer = self.loop.call_later(wait_ms / 1000, self.time_out)
        else:
            self.bytes_min = 0
        if reading is not None:
            self._await(reading)

    def wake(self) -> None:
        if not self.woken:
            self.woken = True
            if self.reading is None:
                self.loop.call_soon(self._again)

    def time_out(self) -> None:
        self.bytes_min = 0
        self.wake()

    def _again(self) -> None:
        if self.future.done() or self.reading is not None or not self.woken:
            return
        self.woken = False
        try:
            outcome = self.fetching.engine.read(self.checked.live, self.bytes_max, self.isolation)
        except RiverlogError as error:
            self.future.set_exception(error)
            return
        if isinstance(outcome, Fetched):
            self._consider(outcome)
        else:
            self._await(outcome)

    def _await(self, reading: Awaitable[Fetched]) -> None:
        self.reading = asyncio.ensure_future(reading)  # noqa: TID251 - held here until `_read`, which takes its outcome
        self.reading.add_done_callback(self._read)

    def _read(self, reading: asyncio.Future[Fetched]) -> None:
        self.reading = None
        if reading.cancelled():
            self.future.cancel()
        elif (error := reading.exception()) is not None:
            if not self.future.done():
                self.future.set_exception(error)
        else:
            self._consider(reading.result())

    def _consider(self, fetched: Fetched) -> None:
        answer = self.checked.answer(fetched)
        if self.future.done():
            answer.close()
        elif _is_enough(answer, self.bytes_min):
            self.fetching._count(self.checked.reads, answer)
            self.future.set_result(answer)
        else:
            answer.close()
            if self.woken:
                self.loop.call_soon(self._again)

    def _ended(self, _: asyncio.Future[Answer]) -> None:
        self.fetching.parked.discard(self)
        if self.subscription is not None:
            self.subscription.close()
        if self.timer is not None:
            self.timer.cancel()
