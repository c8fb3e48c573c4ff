"""Bugs on purpose in what makes transactions whole, so that the simulator can show that each would be seen.

A canary is a function of pytest's monkeypatch; `KINDS` says as what its bug comes to light.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import pytest

from riverlog.base.ids import Offset, PartitionId
from riverlog.broker.effects import MachineRunner
from riverlog.broker.transaction_machines import TransactionMachines
from riverlog.broker.transactions import Transactions
from riverlog.state.groups.offsets import Offsets
from riverlog.state.producers import Producers
from riverlog.state.transactions import life
from riverlog.state.transactions.commands import Settled
from riverlog.state.transactions.effects import Commit, Effect, MakeDurable, Reply, WriteMarkers
from riverlog.state.transactions.machine import Transaction
from riverlog.storage.aborted import Aborted

Canary = Callable[[pytest.MonkeyPatch], None]


def markers_not_written_again(patch: pytest.MonkeyPatch) -> None:
    """A start does not finish what was decided before a crash."""
    load = Transaction.load

    def forgetful(*row: Any) -> tuple[Transaction, list[Effect]]:
        machine, effects = load(*row)
        return machine, [effect for effect in effects if not isinstance(effect, WriteMarkers)]

    patch.setattr(Transaction, "load", forgetful)


def decided_before_the_records_are_durable(patch: pytest.MonkeyPatch) -> None:
    async def at_once(machines: TransactionMachines, runner: MachineRunner[Transaction], effect: MakeDurable) -> None:
        machines.tell(runner, Settled(effect.number))

    patch.setattr(TransactionMachines, "_make_durable", at_once)


def answered_before_the_decision_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A reply overtakes the commit that was asked for before it."""
    step = Transaction.step

    def hasty(machine: Transaction, *asked: Any) -> list[Effect]:
        return sorted(step(machine, *asked), key=lambda effect: not isinstance(effect, Reply))

    patch.setattr(Transaction, "step", hasty)


def marked_before_the_decision_is_durable(patch: pytest.MonkeyPatch) -> None:
    """Readers hear of a decision that a crash takes back."""
    step = Transaction.step

    def hasty(machine: Transaction, *asked: Any) -> list[Effect]:
        return sorted(step(machine, *asked), key=lambda effect: isinstance(effect, Commit))

    patch.setattr(Transaction, "step", hasty)


def admitted_without_a_check(patch: pytest.MonkeyPatch) -> None:
    """Whatever comes under a transactional id is appended."""
    patch.setattr(Transactions, "admits", lambda *asked: True)


def markers_without_a_new_epoch(patch: pytest.MonkeyPatch) -> None:
    """A batch of the transaction that comes late finds its epoch still good."""
    patch.setattr(life, "marker_of", lambda producer: producer)


def offsets_of_aborted_transactions_count(patch: pytest.MonkeyPatch) -> None:
    end_pending = Offsets.end_pending
    patch.setattr(Offsets, "end_pending", lambda offsets, id, number, committed: end_pending(offsets, id, number, True))


def pending_offsets_hide_nothing(patch: pytest.MonkeyPatch) -> None:
    """Who asks for stable offsets is told those of before a transaction that is decided by now."""

    def nothing(offsets: Offsets, partitions: Collection[PartitionId]) -> Collection[PartitionId]:
        return ()

    patch.setattr(Offsets, "unstable", nothing)


def stable_offset_ignores_open_transactions(patch: pytest.MonkeyPatch) -> None:
    def high(producers: Producers, high_watermark: Offset) -> Offset:
        return high_watermark

    patch.setattr(Producers, "last_stable_offset", high)


def aborted_transactions_not_named(patch: pytest.MonkeyPatch) -> None:
    """Readers of what is committed are not told what to skip."""
    patch.setattr(Aborted, "overlapping", lambda *asked: ())


def time_outs_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A transaction whose client is gone stays open, until somebody asks."""
    patch.setattr(TransactionMachines, "_tick", lambda machines, runner: None)


KINDS: Final[dict[Canary, set[str]]] = {
    markers_not_written_again: {"dangling", "stuck"},
    decided_before_the_records_are_durable: {"torn", "lost"},
    answered_before_the_decision_is_durable: {"torn", "lost", "offset back", "aborted seen", "refused"},
    marked_before_the_decision_is_durable: {"aborted seen", "torn", "refused"},
    admitted_without_a_check: {"late", "dangling", "aborted seen"},
    markers_without_a_new_epoch: {"late"},
    offsets_of_aborted_transactions_count: {"aborted seen"},
    pending_offsets_hide_nothing: {"offset back", "not once"},
    stable_offset_ignores_open_transactions: {"aborted seen"},
    aborted_transactions_not_named: {"aborted seen"},
    time_outs_forgotten: {"dangling"},
}
