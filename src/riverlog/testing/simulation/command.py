"""What `riverlog simulate` does; `cli/simulate.py` calls it.

Invariant: exit code 0 means that every promise was kept and that each history was the same twice.
"""

from __future__ import annotations

import re
import sys

from riverlog.testing.simulation.run import LOG, TRANSACTIONS, simulate, simulate_twice


def parse_seeds(text: str) -> range:
    """`3..7` is 3 to 7, both of them. Raises ValueError."""
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError(f"{text!r} is no range of seeds: write it as 0..999")
    return range(int(match[1]), int(match[2]) + 1)


def run_seeds(seeds: range, steps: int, *, verbose: bool, transactions: bool = False) -> int:
    """Prints each failure whole, and one line at the end; `verbose`: every event of every seed. Gives the exit code."""
    scenario = TRANSACTIONS if transactions else LOG
    failed: list[int] = []
    events = 0
    for seed in seeds:
        outcome = simulate_twice(seed, steps, scenario)
        events += outcome.events
        if verbose:
            for line in simulate(seed, steps, scenario, verbose=True).tail:
                say(line)
        if outcome.kind is not None:
            failed.append(seed)
        if outcome.kind is not None or verbose or len(seeds) == 1:
            say(str(outcome))
    if len(seeds) > 1:
        say(f"{len(seeds)} seeds of {steps} steps, each twice: {events} events, {len(failed)} failed {failed or ''}")
    return 1 if failed else 0


def say(line: str) -> None:
    sys.stdout.write(line.rstrip() + "\n")
