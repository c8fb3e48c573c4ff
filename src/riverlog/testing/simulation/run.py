"""One seed, one history: runs it, twice where equality is asked for, and says how to replay it.

Invariant: what a run is depends on scenario, seed and steps alone; what the broker logs goes nowhere meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from riverlog.testing.simulation.lives import Lives
from riverlog.testing.simulation.machine import Machine
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.transactions.machine import TransactionMachine

steps_default: Final = 60
tail_lines: Final = 25
LOG: Final = "log"
TRANSACTIONS: Final = "transactions"
SCENARIOS: Final[Mapping[str, Callable[[int, int], Lives]]] = {LOG: Machine, TRANSACTIONS: TransactionMachine}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`kind` None: every promise was kept."""

    seed: int
    steps: int
    hash: str
    events: int
    kind: str | None = None
    failure: str = ""
    tail: Sequence[str] = ()
    scenario: str = LOG

    def __str__(self) -> str:
        if self.kind is None:
            return f"seed {self.seed}: {self.events} events, {self.hash}"
        lines = [*self.tail, f"seed {self.seed}: {self.failure}", f"replay it: {replay(self.seed, self.steps, self.scenario)}"]
        return "\n".join(lines)


def replay(seed: int, steps: int, scenario: str = LOG) -> str:
    """The command that does it again."""
    what = "" if scenario == LOG else f"--{scenario} "
    return f"riverlog simulate {what}--seed {seed} --steps {steps} --verbose"


@contextmanager
def silence() -> Iterator[None]:
    """What the engine logs of crashes and refusals is no news here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def simulate(seed: int, steps: int = steps_default, scenario: str = LOG, *, verbose: bool = False) -> Outcome:
    """One run. `verbose`: the outcome has the whole trace."""
    machine = SCENARIOS[scenario](seed, steps)
    kind: str | None = None
    failure = ""
    with silence():
        try:
            machine.run()
        except AssertionError as error:
            kind = error.kind if isinstance(error, Violation) else "assertion"
            failure = f"{type(error).__name__}: {error}"
        except Exception as error:
            kind, failure = "exception", f"{type(error).__name__}: {error}"
    trace = machine.trace
    tail = trace if verbose else trace[-tail_lines:] if kind is not None else []
    return Outcome(
        seed=seed,
        steps=steps,
        hash=machine.hash(),
        events=len(trace),
        kind=kind,
        failure=failure,
        tail=tail,
        scenario=scenario,
    )


def simulate_twice(seed: int, steps: int = steps_default, scenario: str = LOG) -> Outcome:
    """Two runs, which have to be equal to the last event."""
    first = simulate(seed, steps, scenario)
    second = simulate(seed, steps, scenario)
    if first.hash == second.hash:
        return first
    return Outcome(
        seed=seed,
        steps=steps,
        hash=first.hash,
        events=first.events,
        kind="two histories",
        failure=f"one seed, two histories: {first.hash} of {first.events} events, {second.hash} of {second.events}",
        tail=second.tail,
        scenario=scenario,
    )


def failures_of(seeds: Iterable[int], steps: int = steps_default, scenario: str = LOG) -> list[Outcome]:
    """Those of the seeds, each run twice, that did not hold."""
    return [outcome for seed in seeds if (outcome := simulate_twice(seed, steps, scenario)).kind is not None]
