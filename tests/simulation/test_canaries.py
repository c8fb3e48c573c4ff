"""Each bug that is put in on purpose is found within the seeds of the suite, as what it is."""

from __future__ import annotations

from typing import Final

import pytest

from riverlog.testing.simulation.run import TRANSACTIONS, replay, simulate
from tests.simulation import canaries, transaction_canaries

SEEDS: Final = 400  # of the suite's, the first
TRANSACTION_SEEDS: Final = 100


@pytest.mark.parametrize("canary", canaries.KINDS, ids=lambda canary: canary.__name__)
def test_a_bug_on_purpose_is_found(canary: canaries.Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    canary(monkeypatch)
    for seed in range(SEEDS):
        outcome = simulate(seed)
        if outcome.kind in canaries.KINDS[canary]:
            assert replay(seed, outcome.steps) in str(outcome)
            return
    pytest.fail(f"{canary.__name__} was not found in {SEEDS} seeds")


@pytest.mark.parametrize("canary", transaction_canaries.KINDS, ids=lambda canary: canary.__name__)
def test_a_bug_in_transactions_is_found(canary: canaries.Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    canary(monkeypatch)
    kinds: set[str | None] = set()
    for seed in range(TRANSACTION_SEEDS):
        outcome = simulate(seed, scenario=TRANSACTIONS)
        kinds.add(outcome.kind)
        if outcome.kind in transaction_canaries.KINDS[canary]:
            assert replay(seed, outcome.steps, TRANSACTIONS) in str(outcome)
            return
    pytest.fail(f"{canary.__name__} was not found in {TRANSACTION_SEEDS} seeds, which found {kinds}")
