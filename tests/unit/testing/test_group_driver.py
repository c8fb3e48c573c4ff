"""The tool that plays a group's machine by hand."""

from __future__ import annotations

from riverlog.state.groups.commands import GroupState
from riverlog.testing.group_driver import GroupDriver, subscription


def test_subscriptions_are_those_of_kafka_consumers() -> None:
    assert subscription("t", "uv") == b"\x00\x00\x00\x00\x00\x02\x00\x01t\x00\x02uv\xff\xff\xff\xff"


def test_stable_assigns_to_everybody_the_leader_first() -> None:
    driver = GroupDriver()
    leader, *others = driver.stable(3)
    assert driver.machine.state is GroupState.STABLE
    assert driver.classic.membership.leader == leader
    assert [member.assignment for member in driver.classic.membership if member.member_id != leader] == [
        other.encode() for other in others
    ]


def test_time_stops_at_every_deadline_on_the_way() -> None:
    driver = GroupDriver()
    driver.join(member_id_required=True, session_timeout_ms=6_000)
    driver.join(member_id_required=True, session_timeout_ms=9_000)
    before = driver.now
    driver.advance(8_999)
    assert (driver.now.wall_ms - before.wall_ms, driver.now.monotonic_ms - before.monotonic_ms) == (8_999, 8_999)
    assert driver.machine.exists
    driver.advance(1)
    assert not driver.machine.exists


def test_reload_takes_only_the_rows_along() -> None:
    driver = GroupDriver()
    (member_id,) = driver.stable(1)
    driver.join()
    driver.reload()
    assert list(driver.classic.membership.members) == [member_id]
    assert driver.machine.waiting() == []
