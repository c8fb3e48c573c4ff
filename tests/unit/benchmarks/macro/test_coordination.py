"""The coordinator's sections: their rows and targets, and a tiny run of the groups' and the offsets' on riverlog."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.macro import coordination, plan
from benchmarks.macro.bench import Bench
from benchmarks.macro.table import OURS
from benchmarks.peers import members, offsets, transactions

TINY = dataclasses.replace(
    plan.quick(("groups", "offsets"), (), 1),
    group_members=(4,), group_partitions=8, heartbeat_seconds=0.05, offset_groups=2, offset_seconds=0.2,
    transaction_producers=(2,), transaction_records=(1,), transaction_seconds=0.2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("section", "rows"), [("groups", 2 * 6), ("committed", 4), ("transactional", 4)], ids=lambda one: str(one)
)
def test_a_tiny_run_fills_every_row(tmp_path: Path, section: str, rows: int) -> None:
    bench = Bench(plan=TINY, names=(OURS,), directory=tmp_path)
    getattr(coordination, section)(bench)
    found = bench.report.rows()
    assert len(found) == rows
    assert [row.metric.label for row in found if not row.ours_samples] == []
    assert bench.report.remarks == []
    assert list(tmp_path.iterdir()) == []


def test_a_thousand_members_have_a_target() -> None:
    result = members.Result(settled_seconds=9.0, cpu_seconds=11.0)
    rows = coordination.group_figures(members.CONSUMER, 1_000, 1_000, result)
    assert [metric.target.text() for metric, _ in rows if metric.target] == ["≤ 10", "≤ 10"]
    assert [value for metric, value in rows if metric.target] == [9.0, 11.0]
    for protocol, count in ((members.CONSUMER, 100), (members.CLASSIC, 1_000)):
        rows = coordination.group_figures(protocol, count, 1_000, result)
        assert not any(metric.target for metric, _ in rows)


def test_offsets_have_a_target() -> None:
    result = offsets.Result(offsets_per_second=25_000, commits=1_000, p50_ms=1, p99_ms=2, cpu_seconds=3)
    rows = {metric.label: (metric, value) for metric, value in coordination.offset_figures(100, result)}
    metric, value = rows["100 groups commit 10 partitions each (synced; Kafka's not)"]
    assert metric.target is not None
    assert (metric.target.text(), value) == ("≥ 20,000", 25_000)
    assert rows["100 groups commit 10 partitions each, broker CPU of 1,000 partition offsets"][1] == 300


def test_transactions_are_told_in_whole_words() -> None:
    result = transactions.Result(transactions_per_second=5, transactions=10, p50_ms=1, p99_ms=2, cpu_seconds=0.1)
    labels = [metric.label for metric, _ in coordination.transaction_figures(1_000, 8, result)]
    assert labels[0] == "transactions of 1,000 × 100 B, 8 producers (synced; Kafka's not)"
    assert dict(zip(labels, (value for _, value in coordination.transaction_figures(1_000, 8, result)), strict=True))[
        "transactions of 1,000 × 100 B, 8 producers, broker CPU of one"
    ] == pytest.approx(10)
