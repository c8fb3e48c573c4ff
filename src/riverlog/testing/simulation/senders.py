"""Who sends: plain producers with every acks, and idempotent ones that send again what they were not told of.

Invariants: a plain producer never sends a batch twice; an idempotent one keeps what it sent until it is acknowledged, sends it
again in order, and begins a new epoch only where its partition has lost something by right. Both outlive the broker.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind
from riverlog.env.entropy import Entropy
from riverlog.records.builder import build_batch
from riverlog.records.compression import Compression
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.storage.contract import Acks, Append, Appended, LogEngine, Refused
from riverlog.testing.simulation.model import PartitionModel, Sent, Violation

in_flight_max: Final = 3  # batches of an idempotent producer; five are remembered
TOMBSTONE: Final = "id"  # the header that says which record a null value is


class Unacknowledged(NamedTuple):
    """A batch that its producer has not been told of."""

    sequence: int
    epoch: int
    values: tuple[str, ...]
    records: tuple[NewRecord, ...]


class Sender:
    """One producer of one partition."""

    def __init__(self, name: str, model: PartitionModel, entropy: Entropy, producer_id: int) -> None:
        self.name = name
        self.model = model
        self.producer_id = producer_id  # -1: a plain one
        self.busy = False
        self._entropy = entropy
        self._number = 0
        self._epoch = 0
        self._sequence = 0
        self._waiting: list[Unacknowledged] = []
        self._again = False  # what waits has to be sent again
        self._told = False  # something was acknowledged

    async def send(self, engine: LogEngine, now_ms: int) -> str:
        """Gives what became of it, for the trace."""
        if self.producer_id < 0:
            return await self._send_plainly(engine, now_ms)
        self.busy = True
        try:
            return await self._send_in_order(engine, now_ms)
        finally:
            self.busy = False

    def restarted(self) -> None:
        """The broker went away: who knows what it has."""
        self.busy = False
        self._again = True

    # Making batches

    def _records(self, now_ms: int) -> tuple[tuple[str, ...], tuple[NewRecord, ...]]:
        below = self._entropy.below
        values: list[str] = []
        records: list[NewRecord] = []
        size = (below(40), below(40), below(400), below(6000))[below(4)] if below(8) else below(40)
        for _ in range(1 + below(3)):
            value = f"{self.name}.{self._number}." + "-" * size
            key = b"k%d" % below(4)
            tombstone = not below(8)
            self.model.send(value, Sent(self.name, self._number, key, tombstone))
            self._number += 1
            values.append(value)
            headers = [(TOMBSTONE, value.encode())] if tombstone else []
            time = now_ms - below(2000)
            records.append(NewRecord(time, key, None if tombstone else value.encode(), headers))
        return tuple(values), tuple(records)

    def _append(self, records: Sequence[NewRecord], epoch: int = -1, sequence: int = -1) -> Append:
        codec = Compression.NONE if self._entropy.below(6) else Compression.LZ4
        batch = build_batch(
            records,
            producer_id=self.producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
            compression=codec,
        )
        return Append(self.model.id, batch if self._entropy.below(2) else bytes(batch), read_header(batch))

    # Sending

    async def _send_plainly(self, engine: LogEngine, now_ms: int) -> str:
        values, records = self._records(now_ms)
        acks = (Acks.ALL, Acks.ALL, Acks.LEADER, Acks.NONE)[self._entropy.below(4)]
        answer = engine.append([self._append(records)], acks)
        if acks is Acks.NONE:
            return f"{self.name} acks=0"
        (outcome,) = await settled(answer)
        if isinstance(outcome, Refused):
            return f"{self.name} {acks.name} refused {outcome.error.kind.name}"
        self.model.acknowledged(outcome.base_offset, values, all_acks=acks is Acks.ALL)
        return f"{self.name} {acks.name} at {outcome.base_offset}"

    async def _send_in_order(self, engine: LogEngine, now_ms: int) -> str:
        if self._waiting:
            self._again = False
            going = list(self._waiting)
        else:
            going = []
            known = self._told and not self.model.weak  # the log takes any sequence of a producer that it does not know
            for _ in range(1 + self._entropy.below(in_flight_max) if known else 1):
                values, records = self._records(now_ms)
                going.append(Unacknowledged(self._sequence, self._epoch, values, records))
                self._sequence += len(values)
            self._waiting.extend(going)
        answers = [engine.append([self._append(one.records, one.epoch, one.sequence)], Acks.ALL) for one in going]
        told: list[str] = []
        for one, answer in zip(going, answers, strict=True):
            if not self._entropy.below(8):
                told.append("reply lost")  # and those after it come on a connection that is gone
                self._again = True
                break
            (outcome,) = await settled(answer)
            told.append(self._hear(one, outcome))
        return f"{self.name} {', '.join(told)}"

    def _hear(self, one: Unacknowledged, outcome: Appended | Refused) -> str:
        if isinstance(outcome, Appended):
            self._waiting.remove(one)
            self._told = True
            self.model.acknowledged(outcome.base_offset, one.values, all_acks=True)
            return f"{'again ' if outcome.duplicate else ''}at {outcome.base_offset}"
        kind = outcome.error.kind
        first = not self._waiting or one is self._waiting[0]
        if kind is ErrorKind.OUT_OF_ORDER_SEQUENCE and first and not self._again:
            if not self.model.lossy and not self.model.damaged:
                raise Violation("sequence", f"{self.model.id}: {self.name} {one.sequence}: {outcome.error.message}")
            self._new_epoch()
        elif kind not in (ErrorKind.STORAGE, ErrorKind.OUT_OF_ORDER_SEQUENCE, ErrorKind.UNKNOWN_TOPIC):
            raise Violation("sequence", f"{self.model.id}: {self.name} {one.sequence}: {outcome.error.message}")
        self._again = True
        return f"refused {kind.name}"

    def _new_epoch(self) -> None:
        """As Kafka's producer does: what waits is numbered anew."""
        self._epoch += 1
        self._sequence = 0
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._waiting.append(one._replace(sequence=self._sequence, epoch=self._epoch))
            self._sequence += len(one.values)


async def settled(
    answer: Sequence[Appended | Refused] | Awaitable[Sequence[Appended | Refused]],
) -> Sequence[Appended | Refused]:
    return await answer if inspect.isawaitable(answer) else answer
