"""Medians, ratios, verdicts and how they are printed."""

from __future__ import annotations

import pytest

from benchmarks.macro.table import OURS, THEIRS, Bound, Metric, Report, Table, Target, comparison, figure, markdown, row

FASTER = Metric(section="s", label="produce", unit="messages/s", target=Target(bound=Bound.RATIO_MIN, limit=2))
CHEAPER = Metric(section="s", label="CPU", unit="s", target=Target(bound=Bound.RATIO_MAX, limit=0.25))
SMALLER = Metric(section="s", label="RSS", unit="MB", target=Target(bound=Bound.VALUE_MAX, limit=60))


@pytest.mark.parametrize(
    ("metric", "ours", "theirs", "met"),
    [
        (FASTER, [200.0], [100.0], True),
        (FASTER, [199.0], [100.0], False),
        (CHEAPER, [1.0], [4.0], True),
        (CHEAPER, [1.1], [4.0], False),
        (SMALLER, [60.0], [], True),
        (SMALLER, [61.0], [400.0], False),
        (FASTER, [200.0], [], None),
        (FASTER, [], [100.0], None),
        (CHEAPER, [1.0], [0.0], None),
        (Metric(section="s", label="no target", unit="s"), [1.0], [1.0], None),
    ],
)
def test_verdicts(metric: Metric, ours: list[float], theirs: list[float], met: bool | None) -> None:
    assert row(metric, ours, theirs).met is met


def test_a_row_is_of_medians() -> None:
    report = Report()
    for ours, theirs in ((10.0, 1.0), (30.0, 2.0), (20.0, 100.0)):
        report.add(FASTER, OURS, ours)
        report.add(FASTER, THEIRS, theirs)
    (made,) = report.rows()
    assert (made.ours, made.theirs, made.ratio) == (20.0, 2.0, 10.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (999.4, "999"),
        (1234, "1,230"),
        (2_345_678, "2,350,000"),
    ],
)
def test_figures_have_three_digits(value: float | None, shown: str) -> None:
    assert figure(value) == shown


def test_the_comparison_as_markdown() -> None:
    rows = [row(FASTER, [300, 100], [100]), row(CHEAPER, [1.0], [2.0]), row(SMALLER, [50.0], [])]
    assert comparison(rows, theirs_name="Kafka 4") == (
        "| | unit | riverlog | Kafka 4 | ratio | target | |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | --- |\n"
        "| produce | messages/s | 200 (100–300) | 100 | 2 × | ≥ 2 × | met |\n"
        "| CPU | s | 1 | 2 | 0.5 × | ≤ 0.25 × | **missed** |\n"
        "| RSS | MB | 50 | – | – | ≤ 60 | met |\n"
    )


def test_a_table_as_markdown() -> None:
    table = Table(title="By size", columns=("n", "µs"), rows=[("1", "2")])
    assert markdown(table) == "### By size\n\n| n | µs |\n| --- | --- |\n| 1 | 2 |\n"
