"""A run is its seed and its steps; the command line says how to do it again."""

from __future__ import annotations

import pytest

from riverlog.testing.simulation.command import parse_seeds, run_seeds
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.run import TRANSACTIONS, Machine, failures_of, replay, simulate, simulate_twice


def test_one_seed_gives_one_history_and_another_gives_another() -> None:
    outcomes = [simulate_twice(seed, 20) for seed in (1, 2)]
    assert [outcome.kind for outcome in outcomes] == [None, None]
    assert outcomes[0].hash != outcomes[1].hash
    assert outcomes[0] == simulate(1, 20)
    assert len(simulate(1, 20, verbose=True).tail) == outcomes[0].events


def test_a_violation_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(machine: Machine) -> None:
        machine.note("something happened")
        raise Violation("lost", "a record is gone")

    monkeypatch.setattr(Machine, "run", run)
    (outcome,) = failures_of([7], 30)
    assert outcome.kind == "lost"
    assert "something happened" in str(outcome)
    assert str(outcome).endswith(f"replay it: {replay(7, 30)}")
    assert run_seeds(range(6, 8), 30, verbose=False) == 1
    said = capsys.readouterr().out
    assert "2 seeds of 30 steps, each twice" in said
    assert "2 failed [6, 7]" in said


def test_two_histories_of_one_seed_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def run(machine: Machine) -> None:
        runs.append(1)
        machine.note(f"{len(runs)}")

    monkeypatch.setattr(Machine, "run", run)
    assert simulate_twice(1, 10).kind == "two histories"


def test_transactions_are_run_and_replayed_by_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = simulate_twice(1, 3, TRANSACTIONS)
    assert outcome.kind is None
    assert outcome != simulate(1, 3)
    assert replay(1, 3, TRANSACTIONS) == "riverlog simulate --transactions --seed 1 --steps 3 --verbose"
    assert run_seeds(range(1, 2), 3, verbose=True, transactions=True) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == str(outcome)
    assert len(said) == outcome.events + 1


def test_ranges_of_seeds() -> None:
    assert parse_seeds("3..5") == range(3, 6)
    for wrong in ("3", "5..3", "a..b", "1...2"):
        with pytest.raises(ValueError, match="no range"):
            parse_seeds(wrong)
