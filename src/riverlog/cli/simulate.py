"""`riverlog simulate`: lives of a simulated machine, replayed by their seeds.

The simulator is part of the test kit, `riverlog.testing`, which is above this layer: it is fetched by name when the command
runs, as a plugin would be, so that no other command depends on it.
"""

from __future__ import annotations

from importlib import import_module

from riverlog.cli.errors import WRONG_USE, CommandError

SIMULATOR = "riverlog.testing.simulation.command"


def simulate(seed: int | None, seeds: str | None, steps: int, verbose: bool, transactions: bool = False) -> int:
    """The exit code. Raises CommandError where it is not said what to run."""
    command = import_module(SIMULATOR)
    if (seed is None) == (seeds is None):
        raise CommandError("say which: --seed N, or --seeds A..B", WRONG_USE)
    if steps < 1 or (seed is not None and seed < 0):
        raise CommandError("--seed is 0 or more, --steps 1 or more", WRONG_USE)
    try:
        chosen = range(seed, seed + 1) if seed is not None else command.parse_seeds(seeds)
    except ValueError as error:
        raise CommandError(str(error), WRONG_USE) from None
    status: int = command.run_seeds(chosen, steps, verbose=verbose, transactions=transactions)
    return status
