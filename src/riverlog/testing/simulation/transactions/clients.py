"""Who writes in transactions: clients that are fenced, fall silent, ask again, send late, and outlive the broker.

Invariants: a client asks for a commit only where everything that it wrote was acknowledged, or was in the log before it asked;
it keeps what it was not told of, and asks again with the same bytes and numbers. What a client hears goes to the ledger at once.
Every refusal must have a reason that the client can see: another one with its transactional id, a time-out, a disturbed disk.
Not here: where its records come from (`plan` of a `Writer` or a `Worker`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId
from riverlog.broker.produce import Lane, Write
from riverlog.state.transactions.commands import Producer, Version
from riverlog.storage.contract import Acks, Appended, Refused
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.transactions.ledger import Attempt, Fate, Ledger
from riverlog.testing.simulation.transactions.plans import AGAIN, FENCED, Batch, Plan, Step, encoded
from riverlog.testing.simulation.transactions.service import CALLER, NOBODY, Service

asks_max: Final = 30  # then a client gives up and begins anew


class Client:
    """One producer with a transactional id, which it may share."""

    def __init__(self, name: str, transactional_id: str, version: Version, timeout_ms: int, ledger: Ledger) -> None:
        self.name = name
        self.transactional_id = transactional_id
        self.version = version
        self.timeout_ms = timeout_ms
        self.shared = False
        self.acks = Acks.ALL
        self.producer: Producer | None = None
        self.attempt: Attempt | None = None
        self.plan: Plan | None = None
        self.last: tuple[Producer, Attempt, dict[PartitionId, int]] | None = None  # ended by an answer
        self._ledger = ledger
        self._stale: Producer | None = None  # of before it began anew
        self._sequences: dict[PartitionId, int] = {}
        self._added: set[PartitionId] = set()
        self._ends_asked = 0
        self._asks = 0
        self._number = 0
        self._late = 0
        self._lane = Lane()

    # Its life

    def restarted(self) -> None:
        """The broker went away."""
        self._lane = Lane()
        self._asks = 0
        self._added = set()
        gone = self.plan is not None and self.plan.impatient and (self._ends_asked or not self.plan.steps)
        if gone or self.acks is Acks.LEADER:
            self._begin_anew()  # who knows which of its batches are there

    async def run(self, service: Service) -> None:
        """Turn after turn, until there is nothing left to be done."""
        self._lane = Lane()
        while service.spend():
            try:
                await self._turn(service)
            except RiverlogError as error:
                await self._refused(service, error)
            await service.pause(200 if service.chance(4) else 10)

    async def _turn(self, service: Service) -> None:
        if self.producer is None:
            await self._init(service)
        elif self.attempt is None:
            await self._begin(service)
        elif self.plan is not None and self.plan.steps:
            if service.chance(15):
                await self._be_silent(service)
            await self._do(service, self.plan)
        else:
            await self._end(service)
        self._asks = 0

    async def _be_silent(self, service: Service) -> None:
        seconds = (0.1, 1.0, self.timeout_ms / 1000 + 1)[service.entropy.below(3)]
        service.note(f"{self.name} is silent for {seconds}")
        await service.time.sleep(seconds)

    async def _refused(self, service: Service, error: RiverlogError) -> None:
        kind = error.kind
        service.note(f"{self.name} refused {kind.name}")
        if kind in AGAIN:
            self._asks += 1
            if kind is ErrorKind.STORAGE and not service.excused():
                raise Violation("error", f"{self.name}: {kind.name} {error.message}") from error
            if self._asks > asks_max:
                if not service.excused():
                    raise Violation("stuck", f"{self.name} is told {kind.name} for ever: {error.message}") from error
                self._begin_anew()
            await service.pause(500)
        elif kind is ErrorKind.TRANSACTION_ABORTABLE and self.plan is not None and self.plan.committed:
            self._check_reason(service, error)
            self.plan = Plan([], committed=False)
        elif kind in FENCED:
            self._check_reason(service, error)
            if self.attempt is not None and self._ends_asked <= 1:
                self._ledger.aborted(self.attempt)  # and nobody will commit it
            self._begin_anew()
            await service.pause(3000 if self.shared else 100)
        else:
            raise Violation("error", f"{self.name}: {kind.name} {error.message}") from error

    def _check_reason(self, service: Service, error: RiverlogError) -> None:
        if self.shared or service.excused() or self.attempt is None or self._stale is not None:
            return
        if service.time.now_ms() - self.attempt.began_ms < self.timeout_ms:
            raise Violation("refused", f"{self.attempt}: {error.kind.name} {error.message}")

    def _begin_anew(self) -> None:
        """As a process that was started again, or that wants a new epoch."""
        self._stale, self.producer = self.producer or self._stale, None
        self.attempt = self.plan = self.last = None
        self._sequences = {}
        self._added = set()
        self._ends_asked = 0
        self._asks = 0

    # Beginning

    async def _init(self, service: Service) -> None:
        expected = Producer()
        if self._stale is not None and service.chance(3):
            expected, self._stale = self._stale, None
        transactions = service.broker.transactions
        producer = await transactions.init(CALLER, self.transactional_id, self.timeout_ms, expected)
        service.note(f"{self.name} init {producer}")
        if not service.chance(10):  # else the reply was lost
            self.producer = producer
            self._stale = None
            self._sequences = {}

    async def _begin(self, service: Service) -> None:
        if self.last is not None and service.chance(6):
            await self._send_late(service, *self.last)
        self.plan = await self.planned(service)
        self._added = set()
        self._ends_asked = 0
        if self.plan is None:
            await service.pause(300)
            return
        self.attempt = self._ledger.begin(self.name, service.time.now_ms())
        service.note(f"{self.name} begins {self.attempt.number}")

    async def planned(self, service: Service) -> Plan | None:
        """What its next transaction is to do; None: nothing, now."""
        raise NotImplementedError

    def value(self, service: Service, source: str = "") -> str:
        """The next value of its own."""
        self._number += 1
        size = service.entropy.below((10, 10, 400)[service.entropy.below(3)])
        return f"{self.name}.{self._number}." + "-" * size + (f"<{source}" if source else "")

    # What a transaction does

    async def _do(self, service: Service, plan: Plan) -> None:
        step = plan.steps[0]
        if step.place is not None:
            await self._commit_offset(service, step)
        else:
            if not step.batches:
                step.batches = [self._batch(service, partition, values) for partition, values in step.wanted]
            known = {batch.partition for batch in step.batches} <= self._added
            if plan.impatient and known and len(plan.steps) == 1 and plan.committed:
                plan.steps.clear()
                await self._end_impatiently(service, plan, step.batches)
                return
            if self.version is not Version.EPOCH_BUMPED:
                await self._add(service, [batch.partition for batch in step.batches])
            await self._produce(service, step.batches)
            if service.chance(12):
                service.note(f"{self.name} lost a reply")
                for batch in step.batches:
                    batch.told = False  # and all of them go again
                return
        plan.steps.pop(0)

    def _batch(self, service: Service, partition: PartitionId, values: Sequence[str]) -> Batch:
        assert self.producer is not None
        assert self.attempt is not None
        self._ledger.send(self.attempt, partition, values)
        base = self._sequences.get(partition, 0)
        self._sequences[partition] = base + len(values)
        return Batch(partition, values, encoded(service.time.now_ms(), self.producer, base, values))

    async def _add(self, service: Service, partitions: Sequence[PartitionId]) -> None:
        assert self.producer is not None
        missing = [one for one in partitions if one not in self._added]
        if not missing:
            return
        named = [(str(service.name_of(one)), one.index) for one in missing]
        errors = await service.broker.transactions.add_partitions(
            CALLER, self.transactional_id, self.producer, named, self.version
        )
        for kind in errors:
            if kind is not None:
                raise RiverlogError(kind, f"{named} were not added")

    async def _produce(self, service: Service, batches: Sequence[Batch]) -> None:
        going = [batch for batch in batches if not batch.told]
        outcomes = await self._sent(service, going)
        self._hear(service, going, outcomes)

    def _send(
        self, service: Service, batches: Sequence[Batch]
    ) -> Sequence[Appended | Refused] | Awaitable[Sequence[Appended | Refused]]:
        topics = service.broker.topics.by_id
        writes = [Write(topics[one.partition.topic_id], one.partition.index, bytearray(one.bytes)) for one in batches]
        return service.broker.producing.produce(
            CALLER, writes, self.acks, self._lane, transactional_id=self.transactional_id, version=self.version
        )

    async def _sent(self, service: Service, batches: Sequence[Batch]) -> Sequence[Appended | Refused]:
        answer = self._send(service, batches)
        return await answer if inspect.isawaitable(answer) else answer

    def _hear(self, service: Service, batches: Sequence[Batch], outcomes: Sequence[Appended | Refused]) -> None:
        """Raises what was refused, the worst of it."""
        assert self.attempt is not None
        errors: list[RiverlogError] = []
        for batch, outcome in zip(batches, outcomes, strict=True):
            if isinstance(outcome, Refused):
                errors.append(outcome.error)
                continue
            batch.told = True
            self._added.add(batch.partition)
            self.attempt.sure.update(batch.values)
        service.note(f"{self.name} sent {[batch.values[0] for batch in batches]}: {errors}")
        if errors:
            raise max(errors, key=lambda error: error.kind not in AGAIN)

    async def _commit_offset(self, service: Service, step: Step) -> None:
        attempt, producer, place = self.attempt, self.producer, step.place
        assert attempt is not None
        assert producer is not None
        assert place is not None
        transactions = service.broker.transactions
        attempt.offsets[place] = step.offset
        if self.version is not Version.EPOCH_BUMPED:
            await transactions.add_group(CALLER, self.transactional_id, producer, place.group, self.version)
        topics = service.to_commit(place.partition, step.offset, str(attempt.number))
        ((kind,),) = await transactions.commit_offsets(
            CALLER, self.transactional_id, producer, self.version, place.group, NOBODY, topics
        )
        service.note(f"{self.name} offset {step.offset} of {place.group}: {kind and kind.name}")
        if kind is not None:
            raise RiverlogError(kind, f"{place} did not take {step.offset}")

    # Ending

    async def _end_impatiently(self, service: Service, plan: Plan, batches: Sequence[Batch]) -> None:
        """Batches of partitions that are in the transaction have their place in the log when the end is asked for."""
        assert self.attempt is not None
        engine = service.broker.engine
        ends = {batch.partition: engine.watermarks(batch.partition).log_end for batch in batches}
        waiting = service.broker.tasks.start(self._sent(service, batches), name="impatient")
        await service.time.sleep(0)  # it is sent now
        there = [one for one in batches if engine.watermarks(one.partition).log_end > ends[one.partition]]
        for batch in there:
            self.attempt.sure.update(batch.values)
        service.note(f"{self.name} is impatient, {len(there)} of {len(batches)} are in the log")
        if len(there) < len(batches):
            self._ledger.aborted(self.attempt)  # it may have to be asked whether all of them are admitted
            self._begin_anew()
            return
        refusal: RiverlogError | None = None
        try:
            await self._end(service)
        except RiverlogError as error:
            refusal = error
        outcomes = await waiting
        refused = [isinstance(one, Refused) for one in outcomes]
        service.note(f"{self.name} impatient, refused {refused}")
        plan.committed = not any(refused)
        if refusal is not None:
            raise refusal

    async def _end(self, service: Service) -> None:
        attempt, before, plan, sequences = self.attempt, self.producer, self.plan, dict(self._sequences)
        assert attempt is not None
        assert before is not None
        assert plan is not None
        committed = plan.committed
        self._ends_asked += 1
        service.peril(attempt.sent.values())
        if committed:
            self._ledger.commit_asked(attempt)
        ending = service.broker.transactions.end(
            CALLER, self.transactional_id, before, committed, self.version
        )
        if not committed and sequences and service.chance(5):
            task = self._later(service, before, attempt, sequences)
            producer = await ending
            await task
            sequences = {}
        else:
            producer = await ending
        service.note(f"{self.name} ended {attempt.number} {committed} {producer}")
        service.peril(attempt.sent.values())
        if service.chance(10):
            service.note(f"{self.name} lost a reply")
            return  # and asks again
        if committed:
            self._ledger.committed(attempt)
        else:
            self._ledger.aborted(attempt)
        self.attempt = self.plan = None
        self.last = (before, attempt, sequences)
        if self.version is Version.EPOCH_BUMPED:
            self._check_bumped(before, producer)
        if producer != before:
            self._sequences = {}
        self.producer = producer
        if sequences != self._sequences and producer == before:
            self._begin_anew()  # what was sent late may have taken its numbers
        self.ended(committed)

    def _check_bumped(self, before: Producer, after: Producer) -> None:
        same = before.producer_id == after.producer_id
        if after.epoch <= before.epoch if same else after.epoch != 0:
            raise Violation("epoch", f"{self.name} was {before} and is {after}: no new epoch")

    def ended(self, committed: bool) -> None:
        """The end was answered."""

    # What comes too late

    def _later(
        self, service: Service, producer: Producer, attempt: Attempt, sequences: dict[PartitionId, int]
    ) -> Awaitable[None]:
        """Beside the end that was asked for just now."""
        loop = service.broker.tasks
        return loop.start(self._send_late(service, producer, attempt, sequences, beside=True), name="late")

    async def _send_late(
        self,
        service: Service,
        producer: Producer,
        attempt: Attempt,
        sequences: dict[PartitionId, int],
        beside: bool = False,
    ) -> None:
        """A batch of a transaction that is over, under the numbers that it had."""
        if not sequences:
            return
        partitions = list(sequences)
        partition = partitions[service.entropy.below(len(partitions))]
        batch = self.late_batch(service, producer, partition, sequences[partition])
        (outcome,) = await self._sent(service, [batch])
        service.note(f"{self.name} sent {batch.values[0]} late, for {attempt.number}: {outcome}")
        if isinstance(outcome, Appended) and not beside:
            raise Violation("late", f"{batch.values} was taken, though {attempt} was over")

    def late_batch(self, service: Service, producer: Producer, partition: PartitionId, sequence: int) -> Batch:
        """Its value may never be seen."""
        self._late += 1
        never = self._ledger.begin(f"{self.name}, late", -1)
        never.fate = Fate.ABORTED
        values = [f"{self.name}-late.{self._late}."]
        self._ledger.send(never, partition, values)
        return Batch(partition, values, encoded(service.time.now_ms(), producer, sequence, values))
