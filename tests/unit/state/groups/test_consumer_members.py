"""Who is in a group of the consumer protocol, and which partitions are whose."""

from __future__ import annotations

import pytest

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import NOTHING
from riverlog.state.groups.consumer_members import ConsumerMember, Roster
from riverlog.state.groups.consumer_rows import ClassicFacts
from riverlog.state.groups.reconciliation import MemberState, Standing
from riverlog.state.groups.regex import ResolvedRegexes
from riverlog.testing.consumer_driver import DrivenTopics

T = TopicId(b"t" * 16)


def roster() -> Roster:
    return Roster(ResolvedRegexes(DrivenTopics(a=1, ab=1)))


def test_what_a_member_says_is_counted_once() -> None:
    one = roster()
    member = ConsumerMember(member_id="m", instance_id="i", names=("a", "z"), regex="ab", assignor="range")
    one.add(member)
    assert (one.named, one.static, one.assignors["range"]) == ({"a": 1, "z": 1}, {"i": "m"}, 1)
    assert one.topics(member) == {"a", "z", "ab"}
    assert [one.is_subscribed(name) for name in ("a", "ab", "z", "b")] == [True, True, True, False]
    one.update(member, member.to_row()._replace(names=("b",), regex=None, classic=ClassicFacts(1, ())))
    assert (one.named, one.topics(member), one.classic_count) == ({"b": 1}, {"b"}, 1)
    one.remove("m")
    assert (len(one), one.named, one.static, one.assignors["range"], one.classic_count) == (0, {}, {}, 0, 0)


def test_a_partition_is_free_when_no_other_member_has_it() -> None:
    one = roster()
    member = ConsumerMember(member_id="m")
    one.add(member)
    one.move(member, Standing(1, 0, MemberState.UNREVOKED_PARTITIONS, {T: frozenset({0})}, {T: frozenset({1})}))
    assert [one.is_free("x", T, index) for index in range(3)] == [False, False, True]
    assert one.is_free("m", T, 1)
    one.move(member, Standing(2, 1, MemberState.STABLE, {T: frozenset({0})}, NOTHING))
    assert one.is_free("x", T, 1)
    one.remove("m")
    assert one.owner == {}


def test_two_members_cannot_have_the_same() -> None:
    one = roster()
    standing = Standing(1, 0, MemberState.STABLE, {T: frozenset({0})}, NOTHING)
    one.add(ConsumerMember(member_id="m", standing=standing))
    with pytest.raises(AssertionError):
        one.add(ConsumerMember(member_id="n", standing=standing))


def test_the_first_assignor_wins_a_tie() -> None:
    one = roster()
    assert one.assignor(("uniform", "range")) == "uniform"
    one.add(ConsumerMember(member_id="m", assignor="range"))
    assert one.assignor(("uniform", "range")) == "range"
    one.add(ConsumerMember(member_id="n", assignor="uniform"))
    assert one.assignor(("uniform", "range")) == "uniform"


def test_the_first_time_that_runs_out_counts() -> None:
    member = ConsumerMember(member_id="m", expires_ms=50)
    assert member.due_ms() == 50
    member.revoke_by_ms, member.join_by_ms, member.sync_by_ms = 40, 30, 60
    assert member.due_ms() == 30
