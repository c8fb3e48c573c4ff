"""What was measured, as values: metrics with their targets, samples, and the tables made of them.

Pure. The figure of a metric is the median of its samples; its ratio is ours to theirs, of medians of one run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

OURS: Final = "riverlog"
THEIRS: Final = "kafka"


class Bound(Enum):
    """What a target bounds: the ratio of ours to theirs, or our own figure."""

    RATIO_MIN = "ratio at least"
    RATIO_MAX = "ratio at most"
    VALUE_MAX = "ours at most"
    VALUE_MIN = "ours at least"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    bound: Bound
    limit: float

    def text(self) -> str:
        """As the table shows it."""
        sign = "≥" if self.bound in (Bound.RATIO_MIN, Bound.VALUE_MIN) else "≤"
        return f"{sign} {figure(self.limit)}" + (" ×" if self.bound in (Bound.RATIO_MIN, Bound.RATIO_MAX) else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the comparison."""

    section: str
    label: str
    unit: str
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric with its figures: medians, and the ratio and verdict where they can be had."""

    metric: Metric
    ours: float | None
    theirs: float | None
    ratio: float | None
    met: bool | None
    ours_samples: tuple[float, ...]
    theirs_samples: tuple[float, ...]


@dataclass(slots=True, kw_only=True)
class Table:
    """A table of its own, for what is not compared with the rival. Cells are ready to print."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """All samples of a run, by metric (in the order in which they first came) and broker, and the other tables."""

    samples: dict[Metric, dict[str, list[float]]] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, metric: Metric, broker: str, value: float) -> None:
        """One more sample."""
        self.samples.setdefault(metric, {}).setdefault(broker, []).append(value)

    def rows(self) -> list[Row]:
        """The comparison, a row a metric."""
        return [row(metric, by.get(OURS, ()), by.get(THEIRS, ())) for metric, by in self.samples.items()]


def row(metric: Metric, ours_samples: Sequence[float], theirs_samples: Sequence[float]) -> Row:
    """Medians, ratio and verdict of one metric; None where a broker was not measured."""
    ours = statistics.median(ours_samples) if ours_samples else None
    theirs = statistics.median(theirs_samples) if theirs_samples else None
    ratio = ours / theirs if ours is not None and theirs else None
    return Row(
        metric=metric, ours=ours, theirs=theirs, ratio=ratio, met=judge(metric.target, ours, ratio),
        ours_samples=tuple(ours_samples), theirs_samples=tuple(theirs_samples),
    )  # fmt: skip


def judge(target: Target | None, ours: float | None, ratio: float | None) -> bool | None:
    """Whether the target is met; None without a target or without what it is about."""
    if target is None:
        return None
    value = ratio if target.bound in (Bound.RATIO_MIN, Bound.RATIO_MAX) else ours
    if value is None:
        return None
    return value >= target.limit if target.bound in (Bound.RATIO_MIN, Bound.VALUE_MIN) else value <= target.limit


def figure(value: float | None) -> str:
    """A number with three significant figures, thousands separated; a dash for none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def spread(samples: Sequence[float]) -> str:
    """Lowest to highest sample, where there is more than one."""
    return f" ({figure(min(samples))}–{figure(max(samples))})" if len(samples) > 1 else ""


def comparison(rows: Sequence[Row], *, theirs_name: str) -> str:
    """The rows as a Markdown table: medians with lowest and highest in parentheses."""
    lines = [
        f"| | unit | riverlog | {theirs_name} | ratio | target | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in rows:
        cells = (
            each.metric.label,
            each.metric.unit,
            figure(each.ours) + spread(each.ours_samples),
            figure(each.theirs) + spread(each.theirs_samples),
            "–" if each.ratio is None else f"{figure(each.ratio)} ×",
            "" if each.metric.target is None else each.metric.target.text(),
            {None: "", True: "met", False: "**missed**"}[each.met],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def markdown(table: Table) -> str:
    """A table of its own with its title, as Markdown."""
    lines = [f"| {' | '.join(table.columns)} |", f"| {' | '.join('---' for _ in table.columns)} |"]
    lines += [f"| {' | '.join(cells)} |" for cells in table.rows]
    return f"### {table.title}\n\n" + "\n".join(lines) + "\n"
