"""Times that run out."""

from __future__ import annotations

from riverlog.state.groups.deadlines import Deadlines


def test_a_time_that_moved_on_is_found_when_its_entry_comes() -> None:
    due = {"a": 10, "b": 20}
    deadlines = Deadlines(due.get)
    for name, due_ms in due.items():
        deadlines.watch(name, due_ms)
    due["a"] = 50
    deadlines.watch("a", 50)
    assert deadlines.next_ms == 10
    assert deadlines.take_due(10) == []
    assert deadlines.next_ms == 20
    assert deadlines.take_due(20) == ["b"]
    assert deadlines.take_due(49) == []
    assert deadlines.take_due(60) == ["a"]
    assert deadlines.next_ms is None


def test_an_earlier_time_counts_at_once_and_one_that_is_gone_not_at_all() -> None:
    due = {"a": 100}
    deadlines = Deadlines(due.get)
    deadlines.watch("a", 100)
    due["a"] = 30
    deadlines.watch("a", 30)
    assert deadlines.take_due(30) == ["a"]
    due.clear()
    deadlines.watch("a", 90)
    assert deadlines.take_due(200) == []
    assert deadlines.next_ms is None
