"""Histories of a simulated machine, each twice: every promise is kept, and one seed gives one history."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from riverlog.testing.simulation.run import LOG, TRANSACTIONS, failures_of, steps_default

SEEDS = int(os.environ.get("RIVERLOG_SEEDS", "1000"))
COUNTS = {LOG: SEEDS, TRANSACTIONS: max(1, SEEDS * 15 // 100)}  # a whole broker takes a few times as long
SHARE = 25  # seeds that a process takes at a time
PROCESSES = 2


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scenario", COUNTS)
def test_every_seed_keeps_every_promise(scenario: str) -> None:
    seeds = COUNTS[scenario]
    shares = [range(first, min(first + SHARE, seeds)) for first in range(0, seeds, SHARE)]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawned) as pool:
        found = list(pool.map(failures_of, shares, [steps_default] * len(shares), [scenario] * len(shares)))
    failures = [outcome for share in found for outcome in share]
    said = "\n\n".join(str(outcome) for outcome in failures[:5])
    assert not failures, f"{len(failures)} of {seeds} seeds failed\n{said}"
