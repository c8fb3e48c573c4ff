"""Membership: votes, leadership, static members and the counts that must agree with them."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.state.groups.commands import Protocols, Token
from riverlog.state.groups.members import Member, Membership


def member(member_id: str, *protocols: str, instance_id: str | None = None, joining: int | None = None) -> Member:
    offered: Protocols = tuple((name, name.encode()) for name in protocols or ("range",))
    return Member(
        member_id=member_id,
        instance_id=instance_id,
        client_id="c",
        client_host="/h",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        protocols=offered,
        joining=None if joining is None else Token(joining),
    )


def membership(*members: Member) -> Membership:
    group = Membership()
    for one in members:
        group.add(one)
    return group


@pytest.mark.parametrize(
    ("wishes", "winner"),
    [
        ([["a", "b"]], "a"),
        ([["a", "b"], ["b", "a"], ["b", "a"]], "b"),
        ([["a", "b"], ["b"]], "b"),
        ([["a", "b"], ["b", "a"]], "a"),
        ([["x", "b", "a"], ["y", "b", "a"], ["a", "b"]], "b"),
    ],
)
def test_votes(wishes: list[list[str]], winner: str) -> None:
    assert membership(*(member(str(i), *wish) for i, wish in enumerate(wishes))).vote() == winner


def test_only_what_all_understand_is_supported() -> None:
    group = membership(member("1", "a", "b"), member("2", "b", "c"))
    assert group.supports((("b", b""),))
    assert not group.supports((("a", b""), ("c", b"")))
    group.remove("2")
    assert group.supports((("a", b""),))


def test_a_protocol_that_is_named_twice_counts_once() -> None:
    group = membership(member("1", "a", "a"), member("2", "b"))
    assert not group.supports((("a", b""),))


def test_the_first_leads_and_the_next_after_it() -> None:
    group = membership(member("1"), member("2"), member("3"))
    assert group.leader == "1"
    group.remove("1")
    assert group.leader == "2"
    group.remove("3")
    group.remove("2")
    assert group.leader is None


def test_a_leader_that_did_not_join_again_gives_way() -> None:
    group = membership(member("1", instance_id="i"), member("2", joining=7))
    assert group.elect_joined_leader()
    assert group.leader == "2"
    assert not membership(member("1")).elect_joined_leader()


def test_joins_are_counted() -> None:
    group = membership(member("1"), member("2", joining=1))
    assert not group.all_joined()
    first = group.get("1")
    assert group.await_join(first, Token(2)) is None
    assert group.await_join(first, Token(3)) == Token(2)
    assert group.all_joined()
    assert group.take_joining(first) == Token(3)
    assert group.take_joining(first) is None
    group.remove("2")
    assert group.joining_count == 0


def test_a_replaced_static_member_keeps_leadership() -> None:
    group = membership(member("1", instance_id="i"), member("2"))
    group.replace_static("1", "3")
    assert group.leader == "3"
    assert group.check("3", "i") is None
    assert group.check("1", "i") is ErrorKind.FENCED_INSTANCE_ID
    assert group.check("1", None) is ErrorKind.UNKNOWN_MEMBER_ID
    assert group.check("2", "z") is ErrorKind.UNKNOWN_MEMBER_ID


def test_rows_come_back() -> None:
    one = member("1", "a", "b", instance_id="i")
    assert Member.of_row("1", one.to_row()) == one
