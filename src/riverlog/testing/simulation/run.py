"""One seed, one history: runs it, twice where equality is asked for, and says how to replay it.

Invariant: what a run is depends on seed and steps alone; the engine's log lines go nowhere meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from riverlog.testing.simulation.machine import Machine
from riverlog.testing.simulation.model import Violation

steps_default: Final = 60
tail_lines: Final = 25


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

    def __str__(self) -> str:
        if self.kind is None:
            return f"seed {self.seed}: {self.events} events, {self.hash}"
        lines = [*self.tail, f"seed {self.seed}: {self.failure}", f"replay it: {replay(self.seed, self.steps)}"]
        return "\n".join(lines)


def replay(seed: int, steps: int) -> str:
    """The command that does it again."""
    return f"riverlog simulate --seed {seed} --steps {steps} --verbose"


@contextmanager
def silence() -> Iterator[None]:
    """What the engine logs of crashes and refusals is no news here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def simulate(seed: int, steps: int = steps_default, *, verbose: bool = False) -> Outcome:
    """One run. `verbose`: the outcome has the whole trace."""
    machine = Machine(seed, steps)
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
        seed=seed, steps=steps, hash=machine.hash(), events=len(trace), kind=kind, failure=failure, tail=tail
    )


def simulate_twice(seed: int, steps: int = steps_default) -> Outcome:
    """Two runs, which have to be equal to the last event."""
    first = simulate(seed, steps)
    second = simulate(seed, steps)
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
    )


def failures_of(seeds: Iterable[int], steps: int = steps_default) -> list[Outcome]:
    """Those of the seeds, each run twice, that did not hold."""
    return [outcome for seed in seeds if (outcome := simulate_twice(seed, steps)).kind is not None]
