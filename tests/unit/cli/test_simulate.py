"""`riverlog simulate`."""

from __future__ import annotations

import pytest

from riverlog.cli import run as run_cli


def test_seeds_are_run_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["simulate", "--seed", "3", "--steps", "5"]) == 0
    assert capsys.readouterr().out.startswith("seed 3: ")
    assert run_cli(["simulate", "--seeds", "3..4", "--steps", "5"]) == 0
    assert capsys.readouterr().out.startswith("2 seeds of 5 steps, each twice: ")
    assert run_cli(["simulate", "--seed", "3", "--steps", "5", "--verbose"]) == 0
    assert "life" in capsys.readouterr().out
    assert run_cli(["simulate", "--transactions", "--seed", "3", "--steps", "5"]) == 0
    assert capsys.readouterr().out.startswith("seed 3: ")


@pytest.mark.parametrize("line", ["", "--seed 1 --seeds 1..2", "--seeds 2..1", "--seed 1 --steps 0", "--seed -1"])
def test_what_is_not_said_well_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["simulate", *line.split()]) == 2
    assert "riverlog: " in capsys.readouterr().err
