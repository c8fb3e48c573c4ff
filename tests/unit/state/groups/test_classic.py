"""A classic group's offsets, descriptions and rows; its members: `test_rebalance.py`."""

from __future__ import annotations

from typing import ClassVar, cast

import pytest

from riverlog.base.errors import Corruption, ErrorKind
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import (
    CutOffsets,
    DeleteGroup,
    DeleteOffsets,
    DeleteOffsetsResult,
    Describe,
    Description,
    DropTopics,
    ExpireOffsets,
    FetchedOffsets,
    FetchOffsets,
    GroupSettings,
    GroupState,
    Heartbeat,
    JoinResult,
    Leaver,
    Result,
    SyncResult,
    Token,
)
from riverlog.state.groups.effects import Reply
from riverlog.state.groups.group import Group
from riverlog.state.groups.topics import NoTopics
from riverlog.testing.group_driver import GroupDriver

TOPIC = TopicId(b"t" * 16)
OTHER = TopicId(b"u" * 16)
T0 = PartitionId(TOPIC, 0)
U0 = PartitionId(OTHER, 0)
DAY_MS = 86_400_000


def joined(driver: GroupDriver, token: Token) -> JoinResult:
    return cast(JoinResult, driver.answers[token])


def synced(driver: GroupDriver, token: Token) -> SyncResult:
    return cast(SyncResult, driver.answers[token])


def described(driver: GroupDriver) -> Description:
    token = driver.token()
    driver.send(Describe(token))
    return cast(Description, driver.answers[token])


def static_pair(settings: GroupSettings | None = None) -> tuple[GroupDriver, str, str]:
    """A stable group of the static members a, who leads, and b; their member ids."""
    driver = GroupDriver(settings)
    first = driver.join(instance_id="a")
    second = driver.join(instance_id="b")
    a = joined(driver, first).member_id
    again = driver.join(a, instance_id="a")
    b = joined(driver, second).member_id
    assert joined(driver, again).leader == a
    driver.sync(b, 2, instance_id="b")
    driver.sync(a, 2, {a: b"A", b: b"B"}, instance_id="a")
    assert driver.machine.state is GroupState.STABLE
    return driver, a, b


class TestOffsets:
    def test_anybody_may_commit_where_nobody_is(self) -> None:
        driver = GroupDriver()
        assert driver.commit({T0: 5}) is None
        assert driver.machine.exists
        assert described(driver).state is GroupState.EMPTY

    def test_only_members_of_the_generation_may_commit_where_somebody_is(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        assert driver.commit({T0: 5}) is ErrorKind.UNKNOWN_MEMBER_ID
        assert driver.commit({T0: 5}, a, 0) is ErrorKind.ILLEGAL_GENERATION
        assert driver.commit({T0: 5}, a, -1) is ErrorKind.ILLEGAL_GENERATION
        assert driver.commit({T0: 5}, "nobody", 1) is ErrorKind.UNKNOWN_MEMBER_ID
        assert not len(driver.machine.offsets)
        assert driver.commit({T0: 5}, a, 1) is None

    def test_a_member_of_a_group_that_is_not_there_is_told_so(self) -> None:
        driver = GroupDriver()
        assert driver.commit({T0: 5}, "nobody", 3) is ErrorKind.GROUP_ID_NOT_FOUND
        driver.commit({T0: 5})
        assert driver.commit({T0: 5}, "nobody", 3) is ErrorKind.UNKNOWN_MEMBER_ID

    def test_commits_are_taken_while_members_join_again_but_not_before_the_assignment(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        driver.join()
        assert driver.commit({T0: 5}, a, 1) is None
        driver.join(a)
        assert driver.commit({T0: 6}, a, 2) is ErrorKind.REBALANCE_IN_PROGRESS

    def test_a_commit_is_a_sign_of_life(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        for _ in range(5):
            driver.advance(9_000)
            assert driver.commit({T0: 5}, a, 1) is None

    def test_fetch_gives_what_was_committed(self) -> None:
        driver = GroupDriver()
        driver.commit({T0: 5, U0: 6})
        for partitions, offsets in (([T0], {T0: 5}), (None, {T0: 5, U0: 6}), ([PartitionId(TOPIC, 9)], {})):
            token = driver.token()
            driver.send(FetchOffsets(token, partitions))
            answer = cast(FetchedOffsets, driver.answers[token]).committed
            assert {partition: committed.offset for partition, committed in answer.items()} == offsets

    def test_a_deleted_topic_takes_its_offsets_along(self) -> None:
        driver = GroupDriver()
        driver.commit({T0: 5, U0: 6})
        driver.send(DropTopics([TOPIC]))
        assert [partition for partition, _ in driver.machine.offsets.items()] == [U0]
        assert len(driver.rows) == 1

    def test_offsets_beyond_a_cut_log_are_cut_back(self) -> None:
        driver = GroupDriver()
        driver.commit({T0: 5, U0: 6})
        driver.send(CutOffsets(T0, 3))
        driver.send(CutOffsets(U0, 9))
        assert [committed.offset for _, committed in driver.machine.offsets.items()] == [3, 6]
        driver.reload()
        assert sorted(committed.offset for _, committed in driver.machine.offsets.items()) == [3, 6]


class TestExpiry:
    names: ClassVar = {TOPIC: "t", OTHER: "u"}

    def test_offsets_of_an_empty_group_go_the_retention_after_it_emptied(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        driver.commit({T0: 5}, a, 1)
        driver.advance(9 * DAY_MS)
        driver.classic.state_since_ms = driver.now.wall_ms  # as if it had left only now
        driver.send(ExpireOffsets(self.names))
        assert len(driver.machine.offsets) == 1
        driver.advance(7 * DAY_MS)
        driver.send(ExpireOffsets(self.names))
        assert not driver.machine.exists
        assert not driver.rows

    def test_offsets_of_a_group_without_members_go_the_retention_after_the_commit(self) -> None:
        driver = GroupDriver()
        driver.commit({T0: 5})
        driver.advance(DAY_MS)
        driver.commit({U0: 5})
        driver.advance(7 * DAY_MS - 1)
        driver.send(ExpireOffsets(self.names))
        assert [partition for partition, _ in driver.machine.offsets.items()] == [U0]
        driver.advance(1)
        driver.send(ExpireOffsets(self.names))
        assert not driver.machine.exists

    def test_a_live_group_keeps_what_it_subscribes_to(self) -> None:
        driver = GroupDriver(GroupSettings(session_timeout_ms_max=20 * DAY_MS))
        a = joined(driver, driver.join(session_timeout_ms=20 * DAY_MS)).member_id
        driver.sync(a, 1)
        driver.commit({T0: 5, U0: 6}, a, 1)
        driver.advance(8 * DAY_MS)
        driver.send(ExpireOffsets(self.names))
        assert [partition for partition, _ in driver.machine.offsets.items()] == [T0]

    def test_a_live_group_of_another_kind_keeps_all(self) -> None:
        driver = GroupDriver(GroupSettings(session_timeout_ms_max=20 * DAY_MS))
        token = driver.join(session_timeout_ms=20 * DAY_MS, protocol_type="connect", protocols=(("v1", b"?"),))
        a = joined(driver, token).member_id
        driver.sync(a, 1)
        driver.commit({T0: 5, U0: 6}, a, 1)
        driver.advance(8 * DAY_MS)
        driver.send(ExpireOffsets(self.names))
        assert len(driver.machine.offsets) == 2

    def test_a_retention_of_the_commit_itself_rules(self) -> None:
        driver = GroupDriver()
        driver.commit({T0: 5}, expire_ms=driver.now.wall_ms + 1_000)
        driver.advance(999)
        driver.send(ExpireOffsets(self.names))
        assert len(driver.machine.offsets) == 1
        driver.advance(1)
        driver.send(ExpireOffsets(self.names))
        assert not len(driver.machine.offsets)

    def test_offsets_of_unknown_topics_go_after_an_hour(self) -> None:
        driver = GroupDriver()
        driver.commit({T0: 5})
        driver.send(ExpireOffsets({}))
        assert len(driver.machine.offsets) == 1
        driver.advance(3_600_000)
        driver.send(ExpireOffsets({}))
        assert not len(driver.machine.offsets)


class TestForPeople:
    def test_describe_tells_the_subscription_only_when_stable(self) -> None:
        driver = GroupDriver()
        assert described(driver) == Description(GroupState.DEAD)
        a, b = driver.stable(2)
        description = described(driver)
        assert (description.state, description.protocol_type, description.protocol) == (
            GroupState.STABLE,
            "consumer",
            "range",
        )
        assert [(one.member_id, one.client_id, one.client_host) for one in description.members] == [
            (a, "c", "/127.0.0.1"),
            (b, "c", "/127.0.0.1"),
        ]
        assert [one.assignment for one in description.members] == [a.encode(), b.encode()]
        driver.join()
        description = described(driver)
        assert (description.state, description.protocol) == (GroupState.PREPARING_REBALANCE, "")
        assert {one.metadata for one in description.members} == {b""}
        assert [one.assignment for one in description.members] == [a.encode(), b.encode(), b""]

    def test_only_an_empty_group_can_be_deleted_and_then_nothing_is_left(self) -> None:
        driver = GroupDriver()

        def delete() -> Result:
            token = driver.token()
            driver.send(DeleteGroup(token))
            return driver.answers[token]

        assert delete() is ErrorKind.GROUP_ID_NOT_FOUND
        (a,) = driver.stable(1)
        driver.commit({T0: 5}, a, 1)
        assert delete() is ErrorKind.NON_EMPTY_GROUP
        driver.leave(Leaver(a))
        assert delete() is None
        assert not driver.rows
        assert delete() is ErrorKind.GROUP_ID_NOT_FOUND
        driver.stable(1)
        assert driver.classic.generation == 1

    def test_offsets_can_be_deleted_where_nobody_subscribes(self) -> None:
        driver = GroupDriver()

        def delete() -> Result:
            token = driver.token()
            driver.send(DeleteOffsets(token, [("t", T0), ("u", U0)]))
            return driver.answers[token]

        assert delete() == DeleteOffsetsResult(ErrorKind.GROUP_ID_NOT_FOUND)
        (a,) = driver.stable(1)
        driver.commit({T0: 5, U0: 6}, a, 1)
        assert delete() == DeleteOffsetsResult(None, [ErrorKind.GROUP_SUBSCRIBED_TO_TOPIC, None])
        assert [partition for partition, _ in driver.machine.offsets.items()] == [T0]
        driver.leave(Leaver(a))
        assert delete() == DeleteOffsetsResult(None, [None, None])
        assert not len(driver.machine.offsets)

    def test_offsets_of_a_live_group_of_another_kind_cannot_be_deleted(self) -> None:
        driver = GroupDriver()
        driver.join(protocol_type="connect")
        token = driver.token()
        driver.send(DeleteOffsets(token, [("t", T0)]))
        assert driver.answers[token] == DeleteOffsetsResult(ErrorKind.NON_EMPTY_GROUP)


class TestRestart:
    def test_a_stable_group_goes_on_without_a_rebalance(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        driver.commit({T0: 5}, a, 2)
        before = described(driver)
        driver.reload()
        assert described(driver) == before
        assert driver.beat(a, 2) is None
        assert driver.beat(b, 2) is None
        assert driver.commit({T0: 6}, b, 2) is None
        assert synced(driver, driver.sync(b, 2)).assignment == b.encode()
        assert driver.classic.membership.leader == a

    def test_sessions_start_anew_and_run_out(self) -> None:
        driver = GroupDriver()
        a, _b = driver.stable(2)
        driver.advance(9_999)
        driver.reload()
        driver.advance(9_999)
        assert driver.beat(a, 2) is None
        driver.advance(1)
        assert driver.beat(a, 2) is ErrorKind.REBALANCE_IN_PROGRESS

    def test_a_rebalance_that_was_under_way_is_forgotten(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        second = driver.join()
        driver.join(a)
        b = joined(driver, second).member_id
        driver.reload()
        assert driver.beat(a, 2) is ErrorKind.ILLEGAL_GENERATION
        assert driver.beat(b, 2) is ErrorKind.UNKNOWN_MEMBER_ID
        assert driver.beat(a, 1) is None

    def test_an_empty_group_keeps_its_generation_and_type(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        driver.leave(Leaver(a))
        driver.reload()
        assert (driver.classic.generation, driver.classic.protocol_type) == (2, "consumer")
        assert joined(driver, driver.join()).generation == 3

    def test_unchanged_rows_are_not_written_again(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        driver.reload()
        driver.join(a)
        driver.join(b)
        driver.sync(a, 3, {member_id: member_id.encode() for member_id in (a, b)})
        assert list(driver.commits[-1]) == ["classic"]

    def test_heartbeats_write_nothing(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        commits = len(driver.commits)
        driver.beat(a, 1)
        assert len(driver.commits) == commits

    @pytest.mark.parametrize("lost", ["classic", "member/c-1"])
    def test_rows_that_do_not_fit_together_are_damage(self, lost: str) -> None:
        driver = GroupDriver()
        driver.stable(2)
        del driver.rows[lost]
        with pytest.raises(Corruption):
            driver.reload()

    def test_rows_of_later_versions_are_left_alone(self) -> None:
        driver = GroupDriver()
        driver.stable(1)
        driver.rows["future/x"] = b"?"
        driver.reload()
        driver.advance(10_000)
        assert driver.rows["future/x"] == b"?"


def test_a_machine_that_knows_nothing_does_not_exist() -> None:
    machine = Group("g", GroupSettings(), NoTopics())
    driver = GroupDriver()
    assert not machine.exists
    assert machine.deadline_ms is None
    assert driver.machine.step(Heartbeat(Token(1), "x", None, 1), driver.now) == [
        Reply(Token(1), ErrorKind.UNKNOWN_MEMBER_ID)
    ]
