"""The verdict on growth."""

from __future__ import annotations

from benchmarks.macro.growth import table


def test_each_size_is_compared_with_the_smallest() -> None:
    cpu = {1_000: [1.0], 1_000_000: [5.0], 10_000_000: [1.0]}
    appends = {1_000: [100.0, 120.0, 80.0], 1_000_000: [114.0], 10_000_000: [116.0]}
    made = table(appends, cpu, {1_000: [50.0], 1_000_000: [50.0], 10_000_000: [40.0]})
    assert [(cells[0], cells[-1]) for cells in made.rows] == [
        ("1,000", ""), ("1,000,000", "met"), ("10,000,000", "**missed**"),
    ]  # fmt: skip
    assert made.rows[1][1] == "114 (1.14 ×)"
