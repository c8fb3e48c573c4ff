"""What a group sees of topics. Whoever runs the machine keeps the view; `TopicsChanged` tells of changes in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from riverlog.base.ids import TopicId, TopicName


class GroupTopic(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def topic_id(self) -> TopicId: ...
    @property
    def partition_count(self) -> int: ...


class TopicsView(Protocol):
    @property
    def by_name(self) -> Mapping[TopicName, GroupTopic]: ...
    @property
    def by_id(self) -> Mapping[TopicId, GroupTopic]: ...


class NoTopics:
    """A view of nothing, for groups that are not asked about topics."""

    by_name: Mapping[TopicName, GroupTopic] = {}
    by_id: Mapping[TopicId, GroupTopic] = {}
