"""The machines of transactional ids in this process, and the effects that only they have.

Invariants: `MakeDurable` answers when all that was appended to the partitions is durable. Markers are written again and
again, with a pause, until every partition and group has the decision or is gone; they are begun only when the decision
is durable, and a start that finds one without its end begins them anew.
An id that has rows is loaded as long as this process owns it, whatever the catalog refuses meanwhile: its time-out runs and
its markers are written although nobody asks for it.
Not here: what is asked and who may (`transactions.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, ProducerId
from riverlog.base.seldom import Seldom
from riverlog.broker.effects import MachineRunner
from riverlog.broker.machines import Loaded, MachineKind, Machines
from riverlog.broker.telemetry import TransactionCounters
from riverlog.catalog.contract import Catalog, CatalogUnavailable, Scope
from riverlog.env.clock import Clock, Now
from riverlog.env.entropy import Entropy
from riverlog.state.transactions.commands import MarkersWritten, Number, Settled, Tick, Token, TransactionSettings
from riverlog.state.transactions.effects import MakeDurable, WriteMarkers
from riverlog.state.transactions.machine import Transaction
from riverlog.storage.contract import Appended, EndMarker, Isolation, LogEngine, Refused

log = logging.getLogger(__name__)

TRANSACTION_SCOPE: Final = "transaction"
marker_retry_pause_ms_min: Final = 20
marker_retry_pause_ms_max: Final = 1_000
load_retry_pause_ms_max: Final = 10_000
complaints_interval_ms: Final = 30_000  # of one end about what it waits for

TransactionRunner: TypeAlias = MachineRunner[Transaction]


class Admitted(NamedTuple):
    """Partitions whose Add was answered, so that they are durably in transaction `number`."""

    number: Number
    partitions: set[PartitionId]


class PendingOffsets(Protocol):
    """The groups, as those know them who decide about their pending offsets (`broker/coordinator.py`)."""

    async def end_pending(self, group_id: str, transactional_id: str, number: int, committed: bool) -> None:
        """Returns when the group has the decision durably. Raises RiverlogError: ask again."""
        ...


class TransactionMachines(Machines[Transaction]):
    def __init__(
        self,
        settings: TransactionSettings,
        catalog: Catalog,
        engine: LogEngine,
        groups: PendingOffsets,
        clock: Clock,
        entropy: Entropy,
        counters: TransactionCounters,
    ) -> None:
        def load(transactional_id: str, rows: Mapping[str, bytes], now: Now) -> Loaded[Transaction]:
            return Transaction.load(transactional_id, rows, settings, now)

        kind = MachineKind(TRANSACTION_SCOPE, "transactional id", load, Tick())
        super().__init__(kind, catalog, clock, entropy, self._perform, (MakeDurable,))
        self._engine = engine
        self._groups = groups
        self._counters = counters
        self.admitted: dict[str, Admitted] = {}  # by transactional id; goes with the machine
        self._load_again: set[str] = set()  # who is being loaded again

    def token(self) -> Token:
        return Token(self.next_token())

    def _release(self, runner: TransactionRunner) -> None:
        super()._release(runner)
        self.admitted.pop(runner.name, None)

    def _forget(self, runner: TransactionRunner) -> None:
        super()._forget(runner)
        self.admitted.pop(runner.name, None)
        self._keep(runner.name)

    # ------------------------------------------------------------------ loading without being asked

    async def load_at_start(self) -> None:
        """Every id that there is, also where the catalog cannot be asked at first."""
        pause_ms = marker_retry_pause_ms_min
        scopes: Sequence[Scope] | None = None
        while scopes is None:
            try:
                scopes = await self._catalog.scopes(TRANSACTION_SCOPE)
            except CatalogUnavailable as error:
                log.warning("the transactional ids cannot be listed now: %s", error)
                pause_ms = await self._pause(pause_ms, load_retry_pause_ms_max)
        for scope in scopes:
            if scope.name not in self.runners and await self._load_once(scope.name) is not None:
                self._keep(scope.name)

    def _keep(self, transactional_id: str) -> None:
        if not self._closed and transactional_id not in self._load_again:
            self._load_again.add(transactional_id)
            self.tasks.start(self._load_until_it_is(transactional_id), name=f"load of {transactional_id} again")

    async def _load_until_it_is(self, transactional_id: str) -> None:
        pause_ms = marker_retry_pause_ms_min
        try:
            while not self._closed and transactional_id not in self.runners:
                pause_ms = await self._pause(pause_ms, load_retry_pause_ms_max)
                refusal = await self._load_once(transactional_id)
                if refusal is None or refusal.kind is ErrorKind.NOT_COORDINATOR:
                    return  # it is loaded, or somebody else's now
        finally:
            self._load_again.discard(transactional_id)

    async def _load_once(self, transactional_id: str) -> RiverlogError | None:
        try:
            runner = await self._load(transactional_id)
        except RiverlogError as error:
            log.warning("%s", error.message)
            return error
        if runner.refusal is not None:  # dropped before we heard of it
            return RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, runner.refusal.message)
        if runner.is_idle:
            self._release(runner)
        return None

    # ------------------------------------------------------------------ time and effects

    def _tick(self, runner: TransactionRunner) -> None:
        was_open = runner.machine.open_number() is not None
        super()._tick(runner)
        if was_open and runner.machine.open_number() is None:
            self._counters.timed_out += 1
            log.info("the transaction of %s timed out and is aborted", runner.what)

    def _perform(self, runner: TransactionRunner, effect: Any) -> None:
        match effect:
            case MakeDurable() if self._is_durable(runner, effect):
                asyncio.get_running_loop().call_soon(self.tell, runner, Settled(effect.number))
            case MakeDurable():
                self.tasks.start(self._make_durable(runner, effect), name=f"durability for {runner.name}")
            case WriteMarkers():
                if effect.committed:
                    self._counters.committed += 1
                else:
                    self._counters.aborted += 1
                self.tasks.start(self._write_markers(runner, effect), name=f"markers of {runner.name}")
            case _:
                raise AssertionError(effect)

    # ------------------------------------------------------------------ before the decision

    def _is_durable(self, runner: TransactionRunner, effect: MakeDurable) -> bool:
        """Whether nothing of the transaction waits for a sync: so it is where the client had its answers before it asked
        for the end. What others have appended to the partitions is then not waited for."""
        producer_id = ProducerId(runner.machine.producer.producer_id)
        try:
            return all(self._engine.is_visible(partition, producer_id) for partition in effect.partitions)
        except RiverlogError:
            return False  # a `cut` tells what is wrong with it

    async def _make_durable(self, runner: TransactionRunner, effect: MakeDurable) -> None:
        error: ErrorKind | None = None
        try:
            await self._reach_the_ends(effect.partitions)
        except RiverlogError as refusal:
            log.warning("what %s has written cannot be made durable: %s", runner.what, refusal.message)
            error = refusal.kind
        except Exception:
            log.exception("what %s has written cannot be made durable", runner.what)
            error = ErrorKind.INTERNAL
        self.tell(runner, Settled(effect.number, error))

    async def _reach_the_ends(self, partitions: Sequence[PartitionId]) -> None:
        """Whose topic was deleted is in nobody's way. Raises what else is wrong with a partition."""
        try:
            await self._engine.cut(partitions, Isolation.READ_UNCOMMITTED)
        except RiverlogError as refusal:
            if refusal.kind is not ErrorKind.UNKNOWN_TOPIC:
                raise
            cuts = (self._engine.cut([one], Isolation.READ_UNCOMMITTED) for one in partitions)
            for outcome in await asyncio.gather(*cuts, return_exceptions=True):
                gone = isinstance(outcome, RiverlogError) and outcome.kind is ErrorKind.UNKNOWN_TOPIC
                if isinstance(outcome, BaseException) and not gone:
                    raise outcome from None

    # ------------------------------------------------------------------ after it

    async def _write_markers(self, runner: TransactionRunner, effect: WriteMarkers) -> None:
        if not effect.partitions and not effect.groups:
            self.tell(runner, MarkersWritten(effect.number))
        elif not effect.groups:
            await self._mark_partitions(runner, effect)
        else:
            of_groups = (self._tell_group(runner, effect, group_id) for group_id in effect.groups)
            await asyncio.gather(self._mark_partitions(runner, effect), *of_groups)

    async def _mark_partitions(self, runner: TransactionRunner, effect: WriteMarkers) -> None:
        left = list(effect.partitions)
        complaints = Seldom(complaints_interval_ms)
        pause_ms = marker_retry_pause_ms_min
        while left and runner.refusal is None:
            outcomes = await self._end(runner, effect, left)
            done = []
            for partition, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, Appended) or _is_settled(runner, partition, outcome.error):
                    done.append(partition)
                elif outcome.error.kind is ErrorKind.TRANSACTION_COORDINATOR_FENCED:
                    log.error("%s is coordinated elsewhere: %s", runner.what, outcome.error.message)
                    await self._pause(marker_retry_pause_ms_max)  # it is loaded again, and may find the same
                    runner.drop(ErrorKind.NOT_COORDINATOR, f"{runner.what} is coordinated elsewhere: find its coordinator")
                    return
                elif complaints.due(self._clock.monotonic_ms()) is not None:
                    log.warning("the end of %s waits for %s: %s", runner.what, partition, outcome.error.message)
            if done:
                self.tell(runner, MarkersWritten(effect.number, done))
                settled = set(done)
                left = [partition for partition in left if partition not in settled]
            if left:
                pause_ms = await self._pause(pause_ms)

    async def _end(
        self, runner: TransactionRunner, effect: WriteMarkers, partitions: Sequence[PartitionId]
    ) -> Sequence[Appended | Refused]:
        producer_id, epoch = effect.producer
        coordinator_epoch = runner.lease.epoch
        markers = [
            EndMarker(partition, ProducerId(producer_id), epoch, effect.committed, coordinator_epoch)
            for partition in partitions
        ]
        try:
            return await self._engine.end_transactions(markers)
        except RiverlogError as refusal:
            return [Refused(refusal)] * len(markers)
        except Exception:
            log.exception("the end of %s cannot be written", runner.what)
            return [Refused(RiverlogError(ErrorKind.INTERNAL, "an internal error, logged above"))] * len(markers)

    async def _tell_group(self, runner: TransactionRunner, effect: WriteMarkers, group_id: str) -> None:
        complaints = Seldom(complaints_interval_ms)
        pause_ms = marker_retry_pause_ms_min
        while runner.refusal is None:
            try:
                await self._groups.end_pending(group_id, runner.name, effect.number, effect.committed)
                self.tell(runner, MarkersWritten(effect.number, (), [group_id]))
                return
            except RiverlogError as refusal:
                if complaints.due(self._clock.monotonic_ms()) is not None:
                    log.warning("the end of %s waits for group %r: %s", runner.what, group_id, refusal.message)
            except Exception:
                log.exception("the end of %s waits for group %r", runner.what, group_id)
            pause_ms = await self._pause(pause_ms)

    async def _pause(self, pause_ms: int, pause_ms_max: int = marker_retry_pause_ms_max) -> int:
        await self._clock.sleep(pause_ms / 1000)
        return min(2 * pause_ms, pause_ms_max)


def _is_settled(runner: TransactionRunner, partition: PartitionId, refusal: RiverlogError) -> bool:
    """Whether a refused marker needs not be written any more."""
    if refusal.kind is ErrorKind.UNKNOWN_TOPIC:
        return True
    if refusal.kind in (ErrorKind.INVALID_PRODUCER_EPOCH, ErrorKind.PRODUCER_FENCED):
        log.warning("%s knows a later epoch than the end of %s: %s", partition, runner.what, refusal.message)
        return True
    return False
