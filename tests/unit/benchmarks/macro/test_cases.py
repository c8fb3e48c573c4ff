"""Ratios and verdicts of cases that have no rival."""

from __future__ import annotations

from benchmarks.macro.cases import COLUMNS, Case, at_least, at_most, ratio_at_least, ratio_at_most, table


def test_a_ratio_is_one_of_medians() -> None:
    case = Case(label="p99", unit="ms", than="alone", target=ratio_at_most(1.5), measured=[3, 1, 2], beside=[1, 9, 1])
    assert case.ratio == 2
    assert case.cells() == ("p99", "ms", "2 (1–3)", "1 (1–9) alone", "2 ×", "≤ 1.5 ×", "**missed**")


def test_values_are_judged_by_their_own_limits() -> None:
    assert Case(label="", unit="s", target=at_most(2), measured=[2]).cells()[-2:] == ("≤ 2", "met")
    assert Case(label="", unit="MB/s", target=at_least(200), measured=[199]).cells()[-2:] == ("≥ 200", "**missed**")
    assert Case(label="", unit="", target=ratio_at_least(0.8), measured=[9], beside=[10]).cells()[-1] == "met"
    assert Case(label="", unit="", target=ratio_at_least(0.8), measured=[9]).cells()[-1] == "", (
        "nothing to compare with"
    )


def test_what_was_not_measured_has_no_row() -> None:
    made = table("Cases", [Case(label="one", unit="s", measured=[1]), Case(label="two", unit="s")])
    assert [cells[0] for cells in made.rows] == ["one"]
    assert all(len(cells) == len(COLUMNS) for cells in made.rows)
