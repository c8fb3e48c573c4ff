"""What a heartbeat of the consumer protocol must be like."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import TopicId
from riverlog.state.groups.commands import ConsumerHeartbeat, GroupSettings, Token
from riverlog.state.groups.consumer_checks import check_heartbeat

JOIN = ConsumerHeartbeat(Token(1), "m", 0, None, "c", "/h", None, 1_000, ["t"], None, None, {})
BEAT = ConsumerHeartbeat(Token(1), "m", 3, None, "c", "/h")


def error_of(beat: ConsumerHeartbeat) -> ErrorKind | None:
    refusal = check_heartbeat(beat, GroupSettings())
    assert refusal is None or refusal.message
    return None if refusal is None else refusal.error


@pytest.mark.parametrize(
    "beat",
    [
        JOIN,
        BEAT,
        JOIN._replace(subscribed_names=None, subscribed_regex="a.*"),
        JOIN._replace(subscribed_names=[], subscribed_regex=""),
        JOIN._replace(member_id="", fresh_id="f"),
        JOIN._replace(assignor="range"),
        BEAT._replace(member_epoch=-1),
        BEAT._replace(member_epoch=-2, instance_id="i"),
    ],
)
def test_these_are_good(beat: ConsumerHeartbeat) -> None:
    assert error_of(beat) is None


@pytest.mark.parametrize(
    "beat",
    [
        JOIN._replace(member_id=""),
        BEAT._replace(member_id="", fresh_id="f"),
        JOIN._replace(rebalance_timeout_ms=-1),
        JOIN._replace(owned=None),
        JOIN._replace(owned={TopicId(b"t" * 16): [0]}),
        JOIN._replace(subscribed_names=None),
        BEAT._replace(instance_id=""),
        BEAT._replace(rack_id=""),
        BEAT._replace(member_epoch=-2),
        BEAT._replace(member_epoch=-3),
    ],
)
def test_these_mean_nothing(beat: ConsumerHeartbeat) -> None:
    assert error_of(beat) is ErrorKind.INVALID_REQUEST


def test_assignors_and_expressions_are_looked_at_whoever_sends_them() -> None:
    assert error_of(BEAT._replace(assignor="sticky")) is ErrorKind.UNSUPPORTED_ASSIGNOR
    assert error_of(BEAT._replace(assignor="")) is ErrorKind.UNSUPPORTED_ASSIGNOR
    assert error_of(BEAT._replace(subscribed_regex="(")) is ErrorKind.INVALID_REGULAR_EXPRESSION
