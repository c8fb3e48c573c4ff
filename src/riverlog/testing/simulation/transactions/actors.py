"""Where the records of transactions come from: writers make them up, workers read them elsewhere (consume, process, produce).

Invariant: a worker goes on where its group's stable offset is, and commits in one transaction what it read and what it made of
it; a source is named in every value that it makes. Plain senders write into the same partitions without transactions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, PartitionId
from riverlog.broker.produce import Lane, Write
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.transactions.commands import Version
from riverlog.storage.contract import Acks, Appended, Isolation
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.transactions.clients import Client
from riverlog.testing.simulation.transactions.ledger import Ledger, Place
from riverlog.testing.simulation.transactions.plans import AGAIN, Plan, Step
from riverlog.testing.simulation.transactions.readers import fetch
from riverlog.testing.simulation.transactions.service import CALLER, Service


class Writer(Client):
    """Appends to several partitions, and now and then commits an offset of its group."""

    def __init__(
        self, name: str, transactional_id: str, version: Version, timeout_ms: int, ledger: Ledger, topic: str
    ) -> None:
        super().__init__(name, transactional_id, version, timeout_ms, ledger)
        self.topic = topic

    async def planned(self, service: Service) -> Plan | None:
        below = service.entropy.below
        if self.shared and service.chance(2):
            await service.pause(4000)  # let the other one have its turn
        partitions = service.partitions(self.topic)
        steps: list[Step] = []
        for _ in range(1 + below(3)):
            first, count = below(len(partitions)), 1 + below(2)
            chosen = {partitions[(first + at) % len(partitions)] for at in range(count)}
            steps.append(
                Step([(one, [self.value(service) for _ in range(1 + below(3))]) for one in sorted(chosen)])
            )
        impatient = len(steps) > 1 and service.chance(3)
        if not below(2):
            partition = partitions[below(len(partitions))]
            offset = service.broker.engine.watermarks(partition).high_watermark
            place = Place(f"group of {self.transactional_id}", partition)
            steps.insert(0 if impatient else below(len(steps) + 1), Step(place=place, offset=offset))
        return Plan(steps, committed=below(4) > 0, impatient=impatient)


class Worker(Client):
    """Reads one partition, and writes a record for each that it read."""

    def __init__(
        self, name: str, transactional_id: str, version: Version, timeout_ms: int, ledger: Ledger, output: str
    ) -> None:
        super().__init__(name, transactional_id, version, timeout_ms, ledger)
        self.output = output
        self.source: PartitionId | None = None
        self.position: Offset | None = None
        self._following: Offset | None = None

    @property
    def place(self) -> Place:
        assert self.source is not None
        return Place(f"workers of {self.transactional_id}", self.source)

    def restarted(self) -> None:
        super().restarted()
        if self.attempt is None:
            self.position = None

    async def planned(self, service: Service) -> Plan | None:
        if self.position is None or service.chance(3):
            committed = await service.committed(self.place, stable=True)
            found = Offset(0 if committed is None else committed.offset)
            service.note(f"{self.name} goes on at {found}")
            if self.position is not None and found < self.position:
                raise Violation("offset back", f"{self.place} is {found}, and {self.position} was committed")
            self.position = found
        bytes_max = (200, 1000)[service.entropy.below(2)]
        part = await fetch(service.broker.engine, self.place.partition, self.position, bytes_max, Isolation.READ_COMMITTED)
        for offset, value in part.seen:
            self._ledger.visible(self.place.partition, offset, value)
        if part.next_offset == self.position:
            return None
        self._following = part.next_offset
        outputs = service.partitions(self.output)
        partition = outputs[service.entropy.below(len(outputs))]
        steps = [Step(place=self.place, offset=part.next_offset)]
        if part.seen:
            steps.insert(0, Step([(partition, [self.value(service, one.value) for one in part.seen])]))
        return Plan(steps, committed=not service.chance(8))

    def ended(self, committed: bool) -> None:
        self.position = self._following if committed else None

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self.position = None


class PlainSender:
    """Records of no transaction."""

    def __init__(self, name: str, topic: str, ledger: Ledger) -> None:
        self.name = name
        self.topic = topic
        self._ledger = ledger
        self._number = 0

    async def run(self, service: Service) -> None:
        lane = Lane()
        while service.spend():
            partitions = service.partitions(self.topic)
            partition = partitions[service.entropy.below(len(partitions))]
            topic = service.broker.topics.by_id[partition.topic_id]
            self._number += 1
            value = f"{self.name}.{self._number}."
            self._ledger.plain[value] = False
            batch = build_batch([NewRecord(service.time.now_ms(), value.encode(), value.encode())])
            writes = [Write(topic, partition.index, batch)]
            answer = service.broker.producing.produce(CALLER, writes, Acks.ALL, lane)
            (outcome,) = await answer if inspect.isawaitable(answer) else answer
            self._ledger.plain[value] = isinstance(outcome, Appended)
            service.note(f"{self.name} {isinstance(outcome, Appended)}")
            await service.pause(500)


class OffsetWatcher:
    """Asks for offsets: what is told was committed, and is never older than what was answered or told before."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._told: dict[Place, int] = {}

    async def look(self, service: Service, places: Sequence[Place]) -> None:
        place = places[service.entropy.below(len(places))]
        stable = not service.chance(3)
        known = max(self._told.get(place, -1), self._ledger.answered(place) if stable else -1)
        try:
            committed = await service.committed(place, stable=stable)
        except RiverlogError as error:
            service.note(f"offset of {place.group} refused {error.kind.name}")
            if error.kind not in AGAIN:
                raise Violation("error", f"{place}: {error.kind.name} {error.message}") from error
            return
        number = -1 if committed is None else self._ledger.offset_seen(place, committed).number
        service.note(f"offset of {place.group}: {committed}, stable={stable}")
        if number < known:
            raise Violation("offset back", f"{place}: {committed} was told, and that of {known} was committed before")
        self._told[place] = number
