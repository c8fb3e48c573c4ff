"""Which sections and loads are run."""

from __future__ import annotations

import pytest

from benchmarks.macro import plan


def test_without_a_choice_everything_is_run() -> None:
    assert plan.chosen_sections(None, None) == tuple(plan.SECTIONS)


def test_sections_keep_their_order() -> None:
    assert plan.chosen_sections("start, produce", None) == ("produce", "start")
    assert plan.chosen_sections("cold,growth,start", "growth") == ("start", "cold")


@pytest.mark.parametrize(("only", "without"), [("speed", None), (None, "speed")])
def test_an_unknown_section_is_named(only: str | None, without: str | None) -> None:
    with pytest.raises(ValueError, match=r"speed.*there are produce"):
        plan.chosen_sections(only, without)


def test_the_full_plan_is_the_issues_table() -> None:
    made = plan.full(tuple(plan.SECTIONS), (), None)
    assert made.loads == ((128, 1_000_000), (512, 1_000_000), (1024, 1_000_000), (10_240, 200_000))
    assert [each.label for each in made.loads] == ["128 B", "512 B", "1 KiB", "10 KiB"]
    assert made.rounds == 5
    assert made.latency_requests >= 5_000
    assert made.growth_records == (1_000, 1_000_000, 10_000_000, 50_000_000)
    assert made.partition_counts == (1, 100, 1_000, 10_000)


def test_a_quick_plan_has_less_of_each() -> None:
    less, more = (make(("produce",), (), None) for make in (plan.quick, plan.full))
    assert all(little.messages < much.messages for little, much in zip(less.loads, more.loads, strict=True))
    assert less.rounds < more.rounds


def test_sizes_and_rounds_can_be_chosen() -> None:
    made = plan.full(("produce",), (128, 2_000), 7)
    assert made.loads == ((128, 1_000_000), (2_000, 1_000_000))
    assert made.rounds == 7
