"""Counters are made when they are first asked for, and stay."""

from __future__ import annotations

from riverlog.base.ids import TopicId
from riverlog.broker.telemetry import Telemetry


def test_counters_are_kept_by_topic_and_by_api_key() -> None:
    telemetry = Telemetry()
    telemetry.topic(TopicId(b"a" * 16)).messages_in += 5
    telemetry.request(1).errors["X"] += 1
    assert telemetry.topic(TopicId(b"a" * 16)).messages_in == 5
    assert telemetry.topic(TopicId(b"b" * 16)).messages_in == 0
    assert telemetry.request(1).errors == {"X": 1}
