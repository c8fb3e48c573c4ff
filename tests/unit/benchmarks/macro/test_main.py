"""The command line and the pages it writes, without any broker."""

from __future__ import annotations

import json

import pytest

from benchmarks.macro import __main__ as command
from benchmarks.macro.table import OURS, THEIRS, Bound, Metric, Report, Table, Target
from benchmarks.peers import kafka, riverlog

METRIC = Metric(section="produce", label="produce", unit="messages/s", target=Target(bound=Bound.RATIO_MIN, limit=2))


def report() -> Report:
    made = Report(tables=[Table(title="By size", columns=("n",), rows=[("1",)])], remarks=["Only a look."])
    made.add(METRIC, OURS, 300)
    made.add(METRIC, THEIRS, 100)
    return made


def test_options_become_a_plan() -> None:
    options = command.parser().parse_args(["--quick", "--only", "latency,produce", "--sizes", "128", "--rounds", "3"])
    made = command.make_plan(options)
    assert made.sections == ("produce", "latency")
    assert [each.size for each in made.loads] == [128]
    assert made.rounds == 3
    assert not made.cold
    assert command.make_plan(command.parser().parse_args(["--cold"])).cold


@pytest.mark.parametrize(
    "arguments", [["--only", "speed"], ["--sizes", "big"], ["--rounds", "0"], ["--brokers", "redpanda"]]
)
def test_nonsense_is_refused_with_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith("benchmarks: ")


def test_a_broker_that_is_missing_is_told_and_the_other_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "missing", lambda: "Maven is missing")
    monkeypatch.setattr(riverlog, "missing", lambda: None)
    assert command.measurable([OURS, THEIRS]) == ((OURS,), ["kafka was not measured: Maven is missing."])


def test_the_page_has_facts_remarks_and_tables() -> None:
    text = command.page(report(), {"CPU": "a fast one"}, title="Benchmarks")
    assert text.startswith("# Benchmarks\n\n- CPU: a fast one\n\nOnly a look.\n")
    assert "| produce | messages/s | 300 | 100 | 3 × | ≥ 2 × | met |" in text
    assert "### By size" in text


def test_the_json_has_every_sample() -> None:
    read = json.loads(command.as_json(report(), {"CPU": "a fast one"}))
    assert read["facts"] == {"CPU": "a fast one"}
    (row,) = read["rows"]
    assert (row["riverlog_samples"], row["kafka_samples"], row["ratio"], row["met"]) == ([300], [100], 3.0, True)
    assert read["tables"] == [{"title": "By size", "columns": ["n"], "rows": [["1"]]}]
