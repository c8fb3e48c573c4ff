"""Lines that are not repeated without end."""

from __future__ import annotations

from riverlog.base.seldom import Seldom


def test_once_an_interval_with_the_number_of_those_left_out() -> None:
    seldom = Seldom(1000)
    assert seldom.due(0) == 0
    assert [seldom.due(at) for at in (0, 500, 999)] == [None] * 3
    assert seldom.due(1000) == 3
    assert seldom.due(1001) is None
    assert seldom.due(5000) == 1
    assert seldom.due(6000) == 0
