"""The transitions of a classic group's members, one by one."""

from __future__ import annotations

from typing import cast

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import (
    Describe,
    Description,
    GroupSettings,
    GroupState,
    JoinResult,
    Leaver,
    LeaveResult,
    Sync,
    SyncResult,
    Tick,
    Token,
    new_member_join_ms_max,
)
from riverlog.state.groups.effects import Commit, Reply
from riverlog.testing.group_driver import RANGE, GroupDriver, subscription

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


class TestJoining:
    def test_a_lone_member_leads_the_first_generation_at_once(self) -> None:
        driver = GroupDriver()
        result = joined(driver, driver.join())
        assert result.error is None
        assert (result.generation, result.protocol, result.protocol_type) == (1, "range", "consumer")
        assert result.leader == result.member_id == "c-1"
        assert [member.metadata for member in result.members] == [subscription("t")]
        assert driver.machine.state is GroupState.COMPLETING_REBALANCE

    def test_a_member_without_an_id_is_given_one_and_comes_again_with_it(self) -> None:
        driver = GroupDriver()
        given = joined(driver, driver.join(member_id_required=True))
        assert (given.error, given.member_id, given.generation) == (ErrorKind.MEMBER_ID_REQUIRED, "c-1", -1)
        assert driver.machine.state is GroupState.EMPTY
        assert joined(driver, driver.join("c-1", member_id_required=True)).generation == 1

    def test_a_given_id_is_taken_back_after_the_session_time_out(self) -> None:
        driver = GroupDriver()
        driver.join(member_id_required=True)
        driver.advance(10_000)
        assert not driver.machine.exists
        assert joined(driver, driver.join("c-1")).error is ErrorKind.UNKNOWN_MEMBER_ID

    def test_a_second_member_makes_the_first_join_again(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        second = driver.join()
        assert second not in driver.answers
        assert driver.beat(a, 1) is ErrorKind.REBALANCE_IN_PROGRESS
        first = driver.join(a)
        assert joined(driver, first).generation == joined(driver, second).generation == 2
        assert joined(driver, first).leader == joined(driver, second).leader == a
        assert len(joined(driver, first).members) == 2
        assert joined(driver, second).members == ()

    def test_a_rebalance_waits_for_who_was_given_an_id(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        given = joined(driver, driver.join(member_id_required=True)).member_id
        again = driver.join(a)  # a leader that joins again asks for a rebalance
        assert again not in driver.answers
        driver.join(given)
        assert joined(driver, again).generation == 2

    def test_a_rebalance_stops_waiting_when_the_given_id_is_left_or_late(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        given = joined(driver, driver.join(member_id_required=True)).member_id
        again = driver.join(a)
        assert driver.leave(Leaver(given)) == LeaveResult([None])
        assert joined(driver, again).generation == 2
        driver.sync(a, 2)
        driver.join(member_id_required=True)
        again = driver.join(a)
        assert again not in driver.answers
        driver.advance(10_000)
        assert joined(driver, again).generation == 3

    def test_who_does_not_join_again_within_the_rebalance_time_out_is_out(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        token = driver.join(b, protocols=(("range", subscription("t", "u")),))
        for _ in range(11):
            driver.advance(5_000)
            driver.beat(a, 2)
        driver.advance(5_000)
        result = joined(driver, token)
        assert (result.generation, result.leader) == (3, b)
        assert [member.member_id for member in result.members] == [b]
        assert driver.beat(a, 3) is ErrorKind.UNKNOWN_MEMBER_ID

    def test_a_follower_with_the_same_metadata_gets_the_current_generation(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        result = joined(driver, driver.join(b))
        assert (result.error, result.generation, result.leader, result.members) == (None, 2, a, ())
        assert driver.machine.state is GroupState.STABLE

    def test_changed_metadata_makes_a_rebalance(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        assert driver.join(b, protocols=(("range", subscription("u")),)) not in driver.answers
        assert driver.machine.state is GroupState.PREPARING_REBALANCE
        assert driver.beat(a, 2) is ErrorKind.REBALANCE_IN_PROGRESS

    def test_joining_again_after_a_lost_answer_gives_the_same_answer(self) -> None:
        driver = GroupDriver()
        result = joined(driver, driver.join())
        assert joined(driver, driver.join(result.member_id)) == result

    def test_joining_again_with_other_metadata_before_the_assignment_begins_anew(self) -> None:
        driver = GroupDriver()
        result = joined(driver, driver.join())
        again = driver.join(result.member_id, protocols=(("range", subscription("u")),))
        assert joined(driver, again).generation == 2

    def test_a_join_that_is_sent_twice_answers_the_first_too(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        first = driver.join(b, protocols=(("range", b"new"),))
        second = driver.join(b, protocols=(("range", b"newer"),))
        assert joined(driver, first).error is ErrorKind.REBALANCE_IN_PROGRESS
        driver.join(a)
        assert joined(driver, second).generation == 3

    def test_the_protocol_with_most_votes_among_the_common_ones_wins(self) -> None:
        driver = GroupDriver(GroupSettings(initial_rebalance_delay_ms=1))
        wishes = [("x", "range", "sticky"), ("sticky", "range"), ("sticky", "range")]
        tokens = [driver.join(protocols=tuple((name, name.encode()) for name in wish)) for wish in wishes]
        driver.advance(60_000)
        result = joined(driver, tokens[0])
        assert result.protocol == "sticky"
        assert [member.metadata for member in result.members] == [b"sticky"] * 3

    @pytest.mark.parametrize(
        ("protocol_type", "names"), [("consumer", ["sticky"]), ("connect", ["range"]), ("consumer", [])]
    )
    def test_who_has_no_protocol_in_common_is_refused(self, protocol_type: str, names: list[str]) -> None:
        driver = GroupDriver()
        driver.stable(1)
        token = driver.join(protocol_type=protocol_type, protocols=tuple((name, b"") for name in names))
        assert joined(driver, token).error is ErrorKind.INCONSISTENT_GROUP_PROTOCOL

    @pytest.mark.parametrize("protocol_type", ["", "consumer"])
    def test_an_empty_group_wants_a_protocol_and_its_type(self, protocol_type: str) -> None:
        driver = GroupDriver()
        token = driver.join(protocol_type=protocol_type, protocols=() if protocol_type else RANGE)
        assert joined(driver, token).error is ErrorKind.INCONSISTENT_GROUP_PROTOCOL
        assert not driver.machine.exists

    @pytest.mark.parametrize("session_timeout_ms", [5_999, 1_800_001, -1])
    def test_session_time_outs_have_limits(self, session_timeout_ms: int) -> None:
        driver = GroupDriver()
        token = driver.join(session_timeout_ms=session_timeout_ms)
        assert joined(driver, token).error is ErrorKind.INVALID_SESSION_TIMEOUT

    def test_an_unknown_member_id_is_refused(self) -> None:
        driver = GroupDriver()
        assert joined(driver, driver.join("nobody")).error is ErrorKind.UNKNOWN_MEMBER_ID
        driver.stable(1)
        assert joined(driver, driver.join("nobody")).error is ErrorKind.UNKNOWN_MEMBER_ID

    def test_a_full_group_takes_nobody(self) -> None:
        driver = GroupDriver(GroupSettings(members_max=2))
        driver.stable(2)
        result = joined(driver, driver.join())
        assert (result.error, result.member_id) == (ErrorKind.GROUP_FULL, "")
        assert driver.machine.state is GroupState.STABLE

    def test_a_full_group_takes_nobody_while_it_rebalances(self) -> None:
        driver = GroupDriver(GroupSettings(members_max=2))
        a, b = driver.stable(2)
        first = driver.join(a)
        second = driver.join()
        assert joined(driver, driver.join()).error is ErrorKind.GROUP_FULL
        assert joined(driver, driver.join(b)).error is ErrorKind.GROUP_FULL  # too late: two came before
        assert joined(driver, first).generation == joined(driver, second).generation == 3

    def test_ids_that_were_given_out_have_a_limit_too(self) -> None:
        driver = GroupDriver(GroupSettings(members_max=2))
        for _ in range(2):
            assert joined(driver, driver.join(member_id_required=True)).error is ErrorKind.MEMBER_ID_REQUIRED
        assert joined(driver, driver.join(member_id_required=True)).error is ErrorKind.GROUP_FULL

    def test_a_new_member_that_waits_too_long_is_given_up(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        token = driver.join(rebalance_timeout_ms=2 * new_member_join_ms_max)
        for _ in range(new_member_join_ms_max // 5_000):
            driver.beat(a, 1)
            driver.advance(5_000)
        assert joined(driver, token).error is ErrorKind.UNKNOWN_MEMBER_ID


class TestInitialDelay:
    def test_members_that_come_during_the_delay_share_the_first_generation(self) -> None:
        driver = GroupDriver(GroupSettings(initial_rebalance_delay_ms=3_000))
        first = driver.join()
        driver.advance(2_999)
        second = driver.join()
        assert not driver.answers
        driver.advance(1)  # somebody came, so once more
        assert not driver.answers
        driver.advance(3_000)
        assert joined(driver, first).generation == joined(driver, second).generation == 1

    def test_the_delay_is_extended_at_most_to_the_rebalance_time_out(self) -> None:
        driver = GroupDriver(GroupSettings(initial_rebalance_delay_ms=3_000))
        tokens = []
        for _ in range(8):
            tokens.append(driver.join(rebalance_timeout_ms=10_000))
            driver.advance(1_249)
        assert not driver.answers
        driver.advance(10)
        assert {joined(driver, token).generation for token in tokens} == {1}

    def test_without_a_newcomer_it_is_not_extended(self) -> None:
        driver = GroupDriver(GroupSettings(initial_rebalance_delay_ms=3_000))
        token = driver.join()
        driver.advance(3_000)
        assert joined(driver, token).generation == 1

    def test_who_leaves_during_the_delay_leaves_an_empty_group(self) -> None:
        driver = GroupDriver(GroupSettings(initial_rebalance_delay_ms=3_000))
        token = driver.join()
        assert driver.leave(Leaver("c-1")) == LeaveResult([None])
        assert joined(driver, token).error is ErrorKind.UNKNOWN_MEMBER_ID
        driver.advance(3_000)
        assert driver.machine.state is GroupState.EMPTY


class TestSyncing:
    def test_all_wait_for_the_leader_and_get_their_parts_after_the_commit(self) -> None:
        driver = GroupDriver()
        a = joined(driver, driver.join()).member_id
        second = driver.join()
        driver.join(a)
        b = joined(driver, second).member_id
        waiting = driver.sync(b, 2)
        assert waiting not in driver.answers
        assert driver.beat(b, 2) is None  # heartbeats are fine before the assignment
        commits = len(driver.commits)
        leading = driver.sync(a, 2, {a: b"for a", b: b"for b"}, protocol_type="consumer", protocol="range")
        assert len(driver.commits) == commits + 1
        assert synced(driver, leading) == SyncResult(None, b"for a", "consumer", "range")
        assert synced(driver, waiting).assignment == b"for b"

    def test_the_commit_comes_before_the_answers(self) -> None:
        machine = GroupDriver()
        a = joined(machine, machine.join()).member_id
        effects = machine.machine.step(Sync(machine.token(), a, None, 1, None, None, {a: b""}), machine.now)
        assert [type(effect) for effect in effects] == [Commit, Reply]

    def test_a_late_sync_gets_its_part(self) -> None:
        driver = GroupDriver()
        _a, b = driver.stable(2)
        assert synced(driver, driver.sync(b, 2)).assignment == b.encode()

    def test_who_is_not_assigned_gets_nothing(self) -> None:
        driver = GroupDriver()
        a = joined(driver, driver.join()).member_id
        assert synced(driver, driver.sync(a, 1, {"somebody else": b"x"})).assignment == b""

    @pytest.mark.parametrize(
        ("member_id", "generation", "protocol_type", "protocol", "error"),
        [
            ("c-1", 2, None, None, ErrorKind.ILLEGAL_GENERATION),
            ("nobody", 1, None, None, ErrorKind.UNKNOWN_MEMBER_ID),
            ("c-1", 1, "connect", None, ErrorKind.INCONSISTENT_GROUP_PROTOCOL),
            ("c-1", 1, "consumer", "sticky", ErrorKind.INCONSISTENT_GROUP_PROTOCOL),
        ],
    )
    def test_who_does_not_fit_is_refused(
        self, member_id: str, generation: int, protocol_type: str | None, protocol: str | None, error: ErrorKind
    ) -> None:
        driver = GroupDriver()
        driver.join()
        token = driver.sync(member_id, generation, protocol_type=protocol_type, protocol=protocol)
        assert synced(driver, token).error is error

    def test_a_sync_during_a_rebalance_is_told_to_join(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        driver.join()
        assert synced(driver, driver.sync(a, 1)).error is ErrorKind.REBALANCE_IN_PROGRESS

    def test_a_rebalance_answers_the_syncs_that_wait(self) -> None:
        driver = GroupDriver()
        driver.join()
        second = driver.join()
        driver.join("c-1")
        b = joined(driver, second).member_id
        waiting = driver.sync(b, 2)
        driver.join()  # a third
        assert synced(driver, waiting).error is ErrorKind.REBALANCE_IN_PROGRESS

    def test_a_sync_that_is_sent_twice_answers_the_first_too(self) -> None:
        driver = GroupDriver()
        driver.join()
        second = driver.join()
        driver.join("c-1")
        b = joined(driver, second).member_id
        first_sync = driver.sync(b, 2)
        second_sync = driver.sync(b, 2)
        assert synced(driver, first_sync).error is ErrorKind.REBALANCE_IN_PROGRESS
        driver.sync("c-1", 2, {b: b"B"})
        assert synced(driver, second_sync).assignment == b"B"

    def test_a_leader_that_never_assigns_is_out_after_the_rebalance_time_out(self) -> None:
        driver = GroupDriver()
        driver.join(session_timeout_ms=100_000)
        second = driver.join(session_timeout_ms=100_000)
        driver.join("c-1", session_timeout_ms=100_000)
        b = joined(driver, second).member_id
        waiting = driver.sync(b, 2)
        driver.advance(60_000)
        assert synced(driver, waiting).error is ErrorKind.REBALANCE_IN_PROGRESS
        assert joined(driver, driver.join(b)).leader == b
        assert driver.beat("c-1", 3) is ErrorKind.UNKNOWN_MEMBER_ID

    def test_a_follower_that_never_syncs_is_out_after_the_rebalance_time_out(self) -> None:
        driver = GroupDriver()
        driver.join(session_timeout_ms=100_000)
        driver.join(session_timeout_ms=100_000)
        driver.join("c-1", session_timeout_ms=100_000)
        driver.sync("c-1", 2, {"c-1": b"all"})
        assert driver.machine.state is GroupState.STABLE
        driver.advance(60_000)
        assert driver.machine.state is GroupState.PREPARING_REBALANCE
        assert list(driver.classic.membership.members) == ["c-1"]


class TestSessions:
    def test_heartbeats_keep_a_member_and_their_end_removes_it(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        for _ in range(5):
            driver.advance(9_999)
            assert driver.beat(a, 2) in (None, ErrorKind.REBALANCE_IN_PROGRESS)
            if driver.machine.state is GroupState.STABLE:
                assert driver.beat(b, 2) is None
        driver.advance(9_000)
        driver.beat(a, 2)
        driver.advance(1_000)
        assert driver.beat(a, 2) is ErrorKind.REBALANCE_IN_PROGRESS
        assert driver.beat(b, 2) is ErrorKind.UNKNOWN_MEMBER_ID

    def test_the_last_session_that_ends_leaves_an_empty_group_and_no_rows_of_members(self) -> None:
        driver = GroupDriver()
        driver.stable(1)
        assert len(driver.rows) == 2
        driver.advance(10_000)
        assert driver.machine.state is GroupState.EMPTY
        assert driver.classic.generation == 2
        assert list(driver.rows) == ["classic"]
        assert driver.deadline_ms is None

    def test_who_waits_for_an_answer_does_not_run_out(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        token = driver.join(b, protocols=(("range", b"new"),))
        for _ in range(5):
            driver.advance(6_000)
            assert driver.beat(a, 2) is ErrorKind.REBALANCE_IN_PROGRESS
        driver.join(a)
        assert joined(driver, token).generation == 3

    @pytest.mark.parametrize(
        ("member_id", "generation", "error"),
        [("c-1", 0, ErrorKind.ILLEGAL_GENERATION), ("nobody", 1, ErrorKind.UNKNOWN_MEMBER_ID), ("c-1", 1, None)],
    )
    def test_heartbeats_are_checked(self, member_id: str, generation: int, error: ErrorKind | None) -> None:
        driver = GroupDriver()
        driver.stable(1)
        assert driver.beat(member_id, generation) is error

    def test_a_tick_that_comes_too_early_does_nothing_but_say_when(self) -> None:
        driver = GroupDriver()
        driver.stable(1)
        due_ms = driver.deadline_ms
        driver.send(Tick())
        assert driver.machine.state is GroupState.STABLE
        assert due_ms is not None
        assert driver.deadline_ms is not None
        assert driver.deadline_ms >= due_ms


class TestLeaving:
    def test_leaving_makes_a_rebalance_at_once(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        assert driver.leave(Leaver(a)) == LeaveResult([None])
        assert driver.beat(b, 2) is ErrorKind.REBALANCE_IN_PROGRESS
        assert joined(driver, driver.join(b)).leader == b

    def test_several_leave_in_one_request_each_with_its_error(self) -> None:
        driver, _a, b = static_pair()
        result = driver.leave(Leaver("", "a"), Leaver(b, "b"), Leaver("", "z"), Leaver("y", "a"), Leaver("nobody"))
        assert result == LeaveResult(
            [None, None, ErrorKind.UNKNOWN_MEMBER_ID, ErrorKind.FENCED_INSTANCE_ID, ErrorKind.UNKNOWN_MEMBER_ID]
        )
        assert driver.machine.state is GroupState.EMPTY

    def test_who_is_named_twice_leaves_once(self) -> None:
        driver = GroupDriver()
        (a,) = driver.stable(1)
        assert driver.leave(Leaver(a), Leaver(a)) == LeaveResult([None, ErrorKind.UNKNOWN_MEMBER_ID])

    def test_who_leaves_while_its_requests_wait_gets_them_answered(self) -> None:
        driver = GroupDriver()
        a, b = driver.stable(2)
        token = driver.join(b, protocols=(("range", b"new"),))
        driver.leave(Leaver(b))
        assert joined(driver, token).error is ErrorKind.UNKNOWN_MEMBER_ID
        driver.join(a)
        assert driver.classic.generation == 3
        second = driver.join()
        driver.join(a)
        c = joined(driver, second).member_id
        waiting = driver.sync(c, 4)
        driver.leave(Leaver(c))
        assert synced(driver, waiting).error is ErrorKind.UNKNOWN_MEMBER_ID


class TestStaticMembers:
    def test_one_that_comes_back_keeps_its_part_without_a_rebalance(self) -> None:
        driver, a, b = static_pair()
        result = joined(driver, driver.join(instance_id="b"))
        assert (result.error, result.generation, result.leader, result.members) == (None, 2, a, ())
        assert result.member_id != b
        assert driver.machine.state is GroupState.STABLE
        part = synced(driver, driver.sync(result.member_id, 2, instance_id="b"))
        assert part.assignment == b"B"
        assert driver.beat(b, 2, "b") is ErrorKind.FENCED_INSTANCE_ID
        assert f"member/{b}" not in driver.rows
        assert f"member/{result.member_id}" in driver.rows

    def test_a_leader_that_comes_back_need_not_assign(self) -> None:
        driver, a, _b = static_pair()
        result = joined(driver, driver.join(instance_id="a"))
        assert result.leader == result.member_id != a
        assert result.skip_assignment
        assert len(result.members) == 2
        driver.reload()
        assert driver.classic.membership.leader == result.member_id

    def test_a_leader_that_does_not_know_skip_assignment_is_told_that_it_does_not_lead(self) -> None:
        driver, a, _b = static_pair()
        result = joined(driver, driver.join(instance_id="a", skip_assignment_known=False))
        assert (result.leader, result.skip_assignment, result.members) == (a, False, ())
        assert result.member_id != a

    def test_one_that_would_change_the_protocol_makes_a_rebalance(self) -> None:
        driver = GroupDriver()
        both = (("range", b""), ("sticky", b""))
        a = joined(driver, driver.join(instance_id="a", protocols=both)).member_id
        driver.sync(a, 1, {a: b"A"}, instance_id="a")
        result = joined(driver, driver.join(instance_id="a", protocols=both[::-1]))
        assert (result.generation, result.protocol) == (2, "sticky")

    def test_one_that_comes_back_before_the_assignment_begins_the_rebalance_anew(self) -> None:
        driver, a, b = static_pair()
        driver.join(a, instance_id="a")
        driver.join(b, instance_id="b")
        assert driver.machine.state is GroupState.COMPLETING_REBALANCE
        waiting = driver.sync(b, 3, instance_id="b")
        token = driver.join(instance_id="b")
        assert synced(driver, waiting).error is ErrorKind.FENCED_INSTANCE_ID
        assert driver.machine.state is GroupState.PREPARING_REBALANCE
        driver.join(a, instance_id="a")
        assert joined(driver, token).generation == 4

    def test_the_join_of_the_one_before_is_fenced(self) -> None:
        driver, a, b = static_pair()
        old = driver.join(b, instance_id="b", protocols=(("range", b"new"),))
        new = driver.join(instance_id="b")
        assert joined(driver, old).error is ErrorKind.FENCED_INSTANCE_ID
        driver.join(a, instance_id="a")
        assert joined(driver, new).generation == 3

    def test_an_instance_with_a_wrong_member_id_is_fenced_everywhere(self) -> None:
        driver, _a, b = static_pair()
        assert joined(driver, driver.join("x", instance_id="a")).error is ErrorKind.FENCED_INSTANCE_ID
        assert synced(driver, driver.sync("x", 2, instance_id="a")).error is ErrorKind.FENCED_INSTANCE_ID
        assert driver.beat(b, 2, "a") is ErrorKind.FENCED_INSTANCE_ID
        assert driver.beat(b, 2, "z") is ErrorKind.UNKNOWN_MEMBER_ID

    def test_one_that_does_not_join_again_stays_until_its_session_ends(self) -> None:
        driver, a, b = static_pair()
        token = driver.join(a, instance_id="a", rebalance_timeout_ms=5_000)
        driver.classic.membership.get(b).rebalance_timeout_ms = 5_000
        driver.classic._join_deadline_ms = driver.now.monotonic_ms + 5_000
        driver.classic._wake_at(driver.classic._join_deadline_ms)
        driver.deadline_ms = driver.machine.deadline_ms
        driver.advance(5_000)
        assert len(joined(driver, token).members) == 2
        driver.advance(10_000)
        assert b not in driver.classic.membership

    def test_when_only_static_members_are_missing_the_rebalance_waits_on(self) -> None:
        driver, a, _b = static_pair()
        token = driver.join(instance_id="c", session_timeout_ms=1_000_000)
        driver.leave(Leaver("", "c"))
        assert joined(driver, token).error is ErrorKind.UNKNOWN_MEMBER_ID
        for member in driver.classic.membership:
            member.expires_ms += 1_000_000
        driver.send(Tick())
        driver.advance(60_000)
        assert driver.machine.state is GroupState.PREPARING_REBALANCE
        assert driver.classic.generation == 2
        driver.join(a, instance_id="a")
        driver.advance(60_000)
        assert driver.classic.generation == 3
