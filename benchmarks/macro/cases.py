"""Cases that are compared with something else than a rival: with a plain loop, without the load beside it, with fewer
partitions. Pure: samples in, a table out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.macro.table import Bound, Table, Target, figure, judge, spread

COLUMNS = ("", "unit", "measured", "beside", "ratio", "target", "")


@dataclass(slots=True, kw_only=True)
class Case:
    """One row: medians of `measured` and, where there is one, of what stands `beside` it (`than` says what that is)."""

    label: str
    unit: str
    than: str = ""
    target: Target | None = None
    measured: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        if not self.measured or not self.beside:
            return None
        other = statistics.median(self.beside)
        return statistics.median(self.measured) / other if other else None

    def cells(self) -> tuple[str, ...]:
        """As `COLUMNS`."""
        ours = statistics.median(self.measured) if self.measured else None
        met = judge(self.target, ours, self.ratio)
        theirs = figure(statistics.median(self.beside)) + spread(self.beside) if self.beside else "–"
        return (
            self.label,
            self.unit,
            figure(ours) + spread(self.measured),
            f"{theirs} {self.than}".strip(),
            "–" if self.ratio is None else f"{figure(self.ratio)} ×",
            "" if self.target is None else self.target.text(),
            {None: "", True: "met", False: "**missed**"}[met],
        )


def ratio_at_most(limit: float) -> Target:
    return Target(bound=Bound.RATIO_MAX, limit=limit)


def ratio_at_least(limit: float) -> Target:
    return Target(bound=Bound.RATIO_MIN, limit=limit)


def at_most(limit: float) -> Target:
    return Target(bound=Bound.VALUE_MAX, limit=limit)


def at_least(limit: float) -> Target:
    return Target(bound=Bound.VALUE_MIN, limit=limit)


def table(title: str, cases: Sequence[Case]) -> Table:
    """Those that were measured."""
    return Table(title=title, columns=COLUMNS, rows=[case.cells() for case in cases if case.measured])
