"""What a group sees of topics."""

from __future__ import annotations

from riverlog.state.groups.topics import NoTopics, TopicsView
from riverlog.testing.consumer_driver import DrivenTopics


def test_both_views_are_views() -> None:
    views: list[TopicsView] = [NoTopics(), DrivenTopics(t=1)]
    assert [len(view.by_name) for view in views] == [len(view.by_id) for view in views] == [0, 1]
