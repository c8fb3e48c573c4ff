"""Each bug that is put in on purpose is found within the seeds of the suite, as what it is."""

from __future__ import annotations

from typing import Final

import pytest

from riverlog.testing.simulation.run import replay, simulate
from tests.simulation.canaries import KINDS, Canary

SEEDS: Final = 400  # of the suite's, the first


@pytest.mark.parametrize("canary", KINDS, ids=lambda canary: canary.__name__)
def test_a_bug_on_purpose_is_found(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    canary(monkeypatch)
    for seed in range(SEEDS):
        outcome = simulate(seed)
        if outcome.kind in KINDS[canary]:
            assert replay(seed, outcome.steps) in str(outcome)
            return
    pytest.fail(f"{canary.__name__} was not found in {SEEDS} seeds")
