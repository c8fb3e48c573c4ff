"""Epochs, topics that change, settings, rows and restarts of groups of the consumer protocol."""

from __future__ import annotations

import pytest

from riverlog.base.errors import Corruption
from riverlog.state.groups.commands import Configure, GroupSettings, GroupState, TopicsChanged
from riverlog.state.groups.consumer import ConsumerSide
from riverlog.state.groups.group import Group
from riverlog.testing.consumer_driver import ConsumerClient, ConsumerGroupDriver, DrivenTopics


def side_of(driver: ConsumerGroupDriver) -> ConsumerSide:
    assert isinstance(driver.machine.side, ConsumerSide)
    return driver.machine.side


def settled(*names: str, **topics: int) -> tuple[ConsumerGroupDriver, list[ConsumerClient]]:
    driver = ConsumerGroupDriver(DrivenTopics(**(topics or {"t": 4})))
    clients = [driver.client(name) for name in names]
    driver.settle()
    return driver, clients


class TestTopics:
    def test_new_partitions_are_given_out(self) -> None:
        driver, clients = settled("a", "b")
        driver.change({"t": 8})
        driver.settle()
        assert [len(client.partitions()) for client in clients] == [4, 4]

    def test_a_topic_that_comes_later_is_given_out(self) -> None:
        driver, (a,) = settled("a", u=1)
        assert a.partitions() == []
        driver.change({"t": 2})
        driver.settle()
        assert len(a.partitions()) == 2

    def test_a_deleted_topic_goes_and_made_again_is_another(self) -> None:
        driver, (a,) = settled("a")
        before = a.partitions()
        driver.change({"t": None})
        driver.settle(2)
        assert a.partitions() == []
        driver.change({"t": 4})
        driver.settle(2)
        assert len(a.partitions()) == 4
        assert not set(a.partitions()) & set(before)

    def test_what_nobody_subscribes_to_and_what_did_not_change_moves_nothing(self) -> None:
        driver, (a,) = settled("a")
        epoch = side_of(driver).group_epoch
        driver.change({"u": 3})
        driver.send(TopicsChanged(["t"]))
        assert side_of(driver).group_epoch == epoch
        assert a.beat().assignment is None

    def test_an_expression_finds_topics_as_they_come(self) -> None:
        driver = ConsumerGroupDriver(DrivenTopics(t1=1))
        a = driver.client("a", names=(), regex="t[0-9]")
        driver.settle(2)
        driver.change({"t2": 1, "tx": 5})
        driver.settle(2)
        assert len(a.partitions()) == 2


class TestRestart:
    def test_a_topic_that_came_right_after_the_load_is_found_by_expression(self) -> None:
        driver = ConsumerGroupDriver(DrivenTopics(t1=1))
        a = driver.client("a", names=(), regex="t.*")
        driver.settle(2)
        driver.reload()
        driver.topics.put("t2", 1)  # nobody was told: the machine could not be asked yet
        driver.settle(2)
        assert len(a.partitions()) == 2

    def test_all_go_on_as_they_were(self) -> None:
        driver, (a, b) = settled("a", "b")
        had, rows = (a.partitions(), b.partitions()), dict(driver.rows)
        driver.reload()
        for client in (a, b):
            assert (client.beat().error, client.beat().assignment) == (None, None)
        assert (a.partitions(), b.partitions()) == had
        assert driver.rows == rows
        assert driver.machine.state is GroupState.STABLE

    def test_sessions_begin_anew(self) -> None:
        driver, (a, _) = settled("a", "b")
        driver.advance(30_000)
        driver.reload()
        driver.advance(30_000)
        assert a.beat().error is None
        driver.advance(20_000)
        assert list(side_of(driver).roster.members) == ["a"]

    def test_topics_that_changed_meanwhile_are_found(self) -> None:
        driver, (a,) = settled("a")
        driver.topics.put("t", 6)
        driver.reload()
        driver.settle(3)
        assert len(a.partitions()) == 6

    def test_a_target_that_was_due_is_decided(self) -> None:
        driver, _ = settled("a", "b")
        driver.client("c").beat()
        driver.client("d").beat()
        assert driver.machine.state is GroupState.ASSIGNING
        driver.reload()
        driver.advance(0)
        assert driver.machine.state is GroupState.RECONCILING
        driver.settle()
        assert [len(client.partitions()) for client in driver.clients] == [1, 1, 1, 1]

    def test_who_was_giving_up_has_its_time_again(self) -> None:
        driver = ConsumerGroupDriver(DrivenTopics(t=2))
        a, b = driver.client("a", rebalance_timeout_ms=10_000), driver.client("b")
        a.beat()
        a.is_slow = True
        b.beat()
        driver.advance(1_000)
        a.beat()
        driver.advance(9_000)
        driver.reload()
        driver.advance(9_999)
        assert "a" in side_of(driver).roster.members
        driver.advance(1)
        assert "a" not in side_of(driver).roster.members

    def test_rows_that_contradict_each_other_are_corruption(self) -> None:
        driver, _ = settled("a", "b")
        twice = {**driver.rows, "consumer/current/b": driver.rows["consumer/current/a"]}
        missing = {key: value for key, value in driver.rows.items() if key != "consumer/current/a"}
        nobody = {**driver.rows, "consumer/target/x": driver.rows["consumer/target/a"]}
        for rows, message in ((twice, "two members"), (missing, "missing"), (nobody, "nobody")):
            with pytest.raises(Corruption, match=message):
                Group.load("g", rows, driver.settings, driver.topics, driver.now)


class TestRows:
    def test_only_what_changed_is_written(self) -> None:
        driver, _ = settled("a", "b")
        commits = len(driver.commits)
        driver.client("c").beat()
        written = {key for commit in driver.commits[commits:] for key in commit}
        whose = {"consumer/target/a", "consumer/target/b"} & written
        assert len(whose) == 1, "one of the two gives a partition up"
        assert written - whose == {"consumer", "consumer/member/c", "consumer/current/c", "consumer/target/c"}


def test_new_settings_count_from_the_next_heartbeat() -> None:
    driver, (a,) = settled("a")
    driver.send(Configure(GroupSettings(consumer_session_timeout_ms=50_000, consumer_heartbeat_interval_ms=7_000)))
    assert a.beat().heartbeat_interval_ms == 7_000
    driver.advance(49_999)
    assert driver.machine.member_count == 1
    driver.advance(1)
    assert driver.machine.member_count == 0
