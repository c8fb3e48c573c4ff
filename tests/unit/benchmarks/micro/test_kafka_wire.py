"""The micro benchmark of the Kafka codec runs, and does the same work each time."""

from __future__ import annotations

import pytest

from benchmarks.micro.kafka_wire import main


def test_runs_tiny(capsys: pytest.CaptureFixture[str]) -> None:
    works = []
    for _ in range(2):
        assert main(["--tiny"]) == 0
        printed = capsys.readouterr().out
        assert "Produce v9: decode" in printed
        works.append(printed.splitlines()[-1])
    assert works[0] == works[1]
    assert works[0].startswith("work ")
