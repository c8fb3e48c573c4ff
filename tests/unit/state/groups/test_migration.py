"""A live group goes to the consumer protocol and back."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import GroupSettings, GroupState, JoinResult, SyncResult
from riverlog.state.groups.consumer import ConsumerSide
from riverlog.state.groups.consumer_protocol import decode_assignment, encode_assignment
from riverlog.testing.consumer_driver import ConsumerGroupDriver, DrivenTopics
from riverlog.testing.group_driver import cooperative_subscription, subscription

OFFSET = PartitionId(TopicId(b"p" * 16), 0)


def classic_pair(**settings: object) -> tuple[ConsumerGroupDriver, str, str]:
    """A stable classic group; a, who leads, has partitions 0 and 1, b has 2 and 3. An offset is committed."""
    driver = ConsumerGroupDriver(DrivenTopics(t=4), settings=GroupSettings(**settings))  # type: ignore[arg-type]
    a, b = driver.stable(2)
    assign(driver, a, b, {a: encode_assignment({"t": [0, 1]}), b: encode_assignment({"t": [2, 3]})})
    assert driver.commit({OFFSET: 7}, a, driver.classic.generation) is None
    return driver, a, b


def assign(driver: ConsumerGroupDriver, a: str, b: str, parts: dict[str, bytes]) -> None:
    driver.join(a)
    driver.join(b)
    driver.sync(b, driver.classic.generation)
    driver.sync(a, driver.classic.generation, parts)
    assert driver.machine.state is GroupState.STABLE


def kept(driver: ConsumerGroupDriver) -> list[int]:
    return [committed.offset for _, committed in driver.machine.offsets.items()]


class TestUp:
    def test_classic_members_keep_what_they_have_until_they_give_it_up(self) -> None:
        driver, a, b = classic_pair()
        generation = driver.classic.generation
        x = driver.client("x")
        result = x.beat()
        assert (result.error, result.member_epoch, result.assignment) == (None, generation + 1, {})
        assert (driver.machine.group_type, driver.machine.state) == ("consumer", GroupState.RECONCILING)
        assert kept(driver) == [7]
        assert not [key for key in driver.rows if key.startswith(("classic", "member/"))]
        assert driver.beat(a, generation) is driver.beat(b, generation) is ErrorKind.REBALANCE_IN_PROGRESS
        for member_id in (a, b):
            joined = driver.answers[driver.join(member_id)]
            assert isinstance(joined, JoinResult)
            synced = driver.answers[driver.sync(member_id, joined.generation)]
            assert isinstance(synced, SyncResult)
            assert len(decode_assignment(synced.assignment)[0]["t"]) <= 2
        x.beat()
        assert len(x.partitions()) == 1
        assert driver.machine.state is GroupState.STABLE

    def test_it_survives_a_restart_in_between(self) -> None:
        driver, a, _ = classic_pair()
        generation = driver.classic.generation
        driver.client("x").beat()
        driver.reload()
        assert driver.machine.group_type == "consumer"
        assert driver.beat(a, generation) is ErrorKind.REBALANCE_IN_PROGRESS

    def test_who_waits_is_told_to_join_again(self) -> None:
        driver, _, _ = classic_pair()
        waiting = driver.join(protocols=(("range", subscription("t")),))
        assert waiting not in driver.answers
        driver.client("x").beat()
        result = driver.answers[waiting]
        assert isinstance(result, JoinResult)
        assert result.error is ErrorKind.REBALANCE_IN_PROGRESS
        assert driver.machine.waiting() == []

    def test_what_cooperative_members_still_own_in_a_rebalance_stays_theirs(self) -> None:
        driver, a, b = classic_pair()
        # The generation after the stable one was never assigned, so the group no longer knows who has what.
        for _ in range(2):
            for member_id, owned in ((a, [0, 1]), (b, [2, 3])):
                metadata = cooperative_subscription(["t"], {"t": owned}, 2)
                driver.join(member_id, protocols=(("range", metadata),))
        driver.join()
        assert driver.machine.state is GroupState.PREPARING_REBALANCE
        driver.client("x").beat()
        side = driver.machine.side
        assert isinstance(side, ConsumerSide)
        topic_id = driver.topics.by_name["t"].topic_id  # type: ignore[index]
        assert side.roster.owner[topic_id] == {0: a, 1: a, 2: b, 3: b}

    @pytest.mark.parametrize(
        ("parts", "why"),
        [
            (b"\x00\x00\x00", "cannot be read"),
            (encode_assignment({"t": [2]}), "two members"),
            (encode_assignment({})[:-4] + b"\x00\x00\x00\x01!", "would be lost"),
        ],
    )
    def test_assignments_that_are_not_understood_keep_it_classic(self, parts: bytes, why: str) -> None:
        driver, a, b = classic_pair()
        assign(driver, a, b, {a: parts, b: encode_assignment({"t": [2, 3]})})
        rows = dict(driver.rows)
        result = driver.client("x").beat()
        assert result.error is ErrorKind.GROUP_ID_NOT_FOUND
        assert why in result.message
        assert (driver.machine.state, driver.rows) == (GroupState.STABLE, rows)

    def test_subscriptions_that_are_not_understood_keep_it_classic(self) -> None:
        driver = ConsumerGroupDriver(DrivenTopics(t=4))
        driver.join(protocols=(("range", b"?"),))
        assert driver.client("x").beat().error is ErrorKind.GROUP_ID_NOT_FOUND

    def test_other_types_policies_and_full_groups_stay_classic(self) -> None:
        driver = ConsumerGroupDriver(DrivenTopics(t=4))
        driver.join(protocol_type="connect")
        assert driver.client("x").beat().error is ErrorKind.GROUP_ID_NOT_FOUND
        for settings in ({"migration_policy": "downgrade"}, {"migration_policy": "disabled"}, {"consumer_members_max": 2}):
            driver, _, _ = classic_pair(**settings)
            assert driver.client("x").beat().error is ErrorKind.GROUP_ID_NOT_FOUND
            assert driver.machine.state is GroupState.STABLE

    def test_only_a_join_converts(self) -> None:
        driver, _, _ = classic_pair()
        x = driver.client("x", epoch=3)
        assert x.beat().error is ErrorKind.GROUP_ID_NOT_FOUND
        x = driver.client("x", assignor="sticky")
        assert x.beat().error is ErrorKind.UNSUPPORTED_ASSIGNOR
        assert driver.machine.group_type == "classic"

    def test_an_empty_group_becomes_what_who_joins_speaks(self) -> None:
        driver = ConsumerGroupDriver(DrivenTopics(t=4))
        driver.commit({OFFSET: 7})
        x = driver.client("x")
        x.beat()
        x.leave()
        assert (driver.machine.group_type, driver.machine.state) == ("consumer", GroupState.EMPTY)
        driver.stable(1)
        assert (driver.machine.group_type, kept(driver)) == ("classic", [7])
        assert not [key for key in driver.rows if key.startswith("consumer")]


class TestDown:
    def test_the_last_consumer_member_leaves_a_classic_group_that_rebalances(self) -> None:
        driver, a, b = classic_pair()
        x = driver.client("x")
        x.beat()
        epochs = {}
        for member_id in (a, b):
            joined = driver.answers[driver.join(member_id)]
            assert isinstance(joined, JoinResult)
            epochs[member_id] = joined.generation
        x.leave()
        assert (driver.machine.group_type, driver.machine.state) == ("classic", GroupState.PREPARING_REBALANCE)
        for member_id in (a, b):  # what they have read meanwhile is not read again
            assert driver.beat(member_id, epochs[member_id]) is ErrorKind.REBALANCE_IN_PROGRESS
            assert driver.commit({OFFSET: 8}, member_id, epochs[member_id]) is None
        assert kept(driver) == [8]
        assert not [key for key in driver.rows if key.startswith("consumer")]
        first, second = driver.join(a), driver.join(b)
        results = [driver.answers[token] for token in (first, second)]
        assert all(isinstance(result, JoinResult) and result.error is None for result in results)
        assert driver.machine.state is GroupState.COMPLETING_REBALANCE

    def test_so_does_its_session(self) -> None:
        driver, _, _ = classic_pair(consumer_session_timeout_ms=6_000)
        driver.client("x").beat()
        driver.advance(6_000)
        assert (driver.machine.group_type, driver.machine.member_count) == ("classic", 2)

    def test_a_group_loaded_before_it_has_rebalanced_does_so(self) -> None:
        driver, a, b = classic_pair()
        x = driver.client("x")
        x.beat()
        joined = driver.answers[driver.join(a)]
        assert isinstance(joined, JoinResult)
        x.leave()
        driver.reload()
        assert driver.machine.group_type == "classic"
        assert driver.beat(a, joined.generation) is ErrorKind.ILLEGAL_GENERATION
        tokens = [driver.join(a), driver.join(b)]
        results = [driver.answers[token] for token in tokens]
        assert [isinstance(result, JoinResult) and result.error for result in results] == [None, None]
        assert driver.machine.state is GroupState.COMPLETING_REBALANCE

    def test_it_stays_where_the_policy_says_so(self) -> None:
        driver, _, _ = classic_pair(migration_policy="upgrade")
        x = driver.client("x")
        x.beat()
        x.leave()
        assert (driver.machine.group_type, driver.machine.member_count) == ("consumer", 2)
