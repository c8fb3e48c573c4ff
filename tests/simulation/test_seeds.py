"""A thousand histories of a simulated machine, each twice: every promise is kept, and one seed gives one history."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from riverlog.testing.simulation.run import failures_of, steps_default

SEEDS = int(os.environ.get("RIVERLOG_SEEDS", "1000"))
SHARE = 25  # seeds that a process takes at a time
PROCESSES = 2


@pytest.mark.timeout(1200)
def test_every_seed_keeps_every_promise() -> None:
    shares = [range(first, min(first + SHARE, SEEDS)) for first in range(0, SEEDS, SHARE)]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawned) as pool:
        found = list(pool.map(failures_of, shares, [steps_default] * len(shares)))
    failures = [outcome for share in found for outcome in share]
    said = "\n\n".join(str(outcome) for outcome in failures[:5])
    assert not failures, f"{len(failures)} of {SEEDS} seeds failed\n{said}"
