"""The ground that every section stands on, with a broker that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest

from benchmarks.macro.bench import Bench
from benchmarks.macro.plan import quick
from benchmarks.macro.table import OURS, THEIRS


class NoBroker:
    """Notes what is done to it."""

    name = OURS
    bootstrap = "127.0.0.1:1"
    pid = 1

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.done: list[str] = []

    def prepare(self) -> None:
        self.directory.mkdir()
        self.done.append("prepare")

    def spawn(self) -> None:
        self.done.append("spawn")

    def start(self) -> Self:
        self.done.append("start")
        return self

    def stop(self) -> None:
        self.done.append("stop")

    def kill(self) -> None:
        self.done.append("kill")


def bench(directory: Path, brokers: list[NoBroker]) -> Bench:
    def make(name: str, where: Path) -> NoBroker:
        brokers.append(NoBroker(where))
        return brokers[-1]

    return Bench(plan=quick(("produce",), (), None), names=(OURS, THEIRS), directory=directory, make=make)


def test_each_broker_comes_first_in_every_other_round(tmp_path: Path) -> None:
    made = bench(tmp_path, [])
    assert [made.alternating(number) for number in range(3)] == [(OURS, THEIRS), (THEIRS, OURS), (OURS, THEIRS)]


def test_a_broker_is_ended_and_its_files_removed_whatever_happens(tmp_path: Path) -> None:
    brokers: list[NoBroker] = []
    made = bench(tmp_path, brokers)
    with pytest.raises(RuntimeError, match="in the middle"), made.fresh(OURS, "x") as broker:
        broker.start()
        raise RuntimeError("in the middle")
    assert brokers[0].done == ["prepare", "start", "stop"]
    assert not list(tmp_path.iterdir())


def test_settling_leaves_no_file(tmp_path: Path) -> None:
    bench(tmp_path, []).settle(3_000_000)
    assert not list(tmp_path.iterdir())
