"""Heartbeats of the consumer protocol, and what its members mean for offsets."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import (
    CommitOffsets,
    CommitPending,
    CommittedOffset,
    ConsumerDescription,
    ConsumerHeartbeatResult,
    DeleteGroup,
    DeleteOffsets,
    DeleteOffsetsResult,
    Describe,
    DescribeConsumer,
    Description,
    ExpireOffsets,
    FetchedOffsets,
    FetchOffsets,
    GroupSettings,
    GroupState,
    Heartbeat,
)
from riverlog.testing.consumer_driver import ConsumerClient, ConsumerGroupDriver, DrivenTopics

DAY_MS = 86_400_000


def driven(count: int = 4, **settings: int) -> ConsumerGroupDriver:
    return ConsumerGroupDriver(DrivenTopics(t=count), settings=GroupSettings(**settings))  # type: ignore[arg-type]


def indexes(client: ConsumerClient) -> list[int]:
    return [index for _, index in client.partitions()]


def pair() -> tuple[ConsumerGroupDriver, ConsumerClient, ConsumerClient]:
    """Two settled members of two partitions each."""
    driver = driven()
    a, b = driver.client("a"), driver.client("b")
    driver.settle()
    assert (indexes(a), indexes(b)) == ([0, 1], [2, 3])
    return driver, a, b


def error_of(result: ConsumerHeartbeatResult) -> ErrorKind | None:
    assert result.error is None or result.message
    return result.error


class TestJoining:
    def test_the_first_gets_everything_at_once(self) -> None:
        driver = driven()
        result = driver.client("a").beat()
        topic_id = driver.topics.by_name["t"].topic_id  # type: ignore[index]
        assert result == ConsumerHeartbeatResult(None, "", "a", 1, 5_000, {topic_id: [0, 1, 2, 3]})

    def test_a_member_without_an_id_is_given_one(self) -> None:
        driver = driven()
        client = driver.client("")
        beat = client.request()
        assert driver_answer(driver, beat._replace(fresh_id="fresh")).member_id == "fresh"
        assert driver_answer(driver, client.request()).error is ErrorKind.INVALID_REQUEST

    def test_joins_are_gathered_for_the_next_target(self) -> None:
        driver = driven()
        clients = [driver.client(name) for name in "abcd"]
        for client in clients:
            client.beat()
        assert driver.machine.state is GroupState.ASSIGNING
        assert [client.epoch for client in clients] == [1, 1, 1, 1]
        driver.advance(1_000)
        assert driver.machine.state is GroupState.RECONCILING
        driver.settle()
        assert [client.epoch for client in clients] == [4, 4, 4, 4]
        assert driver.machine.state is GroupState.STABLE

    def test_without_an_interval_each_join_is_a_target(self) -> None:
        driver = driven(consumer_assignment_interval_ms=0)
        for name in "ab":
            driver.client(name).beat()
        assert driver.machine.state is GroupState.RECONCILING

    def test_a_lost_answer_is_given_again(self) -> None:
        driver = driven()
        client = driver.client("a")
        assert client.send() == client.send()

    def test_a_full_group_lets_nobody_else_in(self) -> None:
        driver = driven(consumer_members_max=1)
        a, b = driver.client("a"), driver.client("b")
        a.beat()
        assert error_of(b.send()) is ErrorKind.GROUP_FULL
        assert error_of(a.send()) is None

    def test_who_was_given_up_joins_again(self) -> None:
        driver, a, b = pair()
        driver.clients.remove(a)
        for _ in range(5):
            driver.advance(10_000)
            b.beat()
        assert driver.machine.member_count == 1
        assert error_of(a.beat()) is ErrorKind.UNKNOWN_MEMBER_ID
        assert error_of(a.beat()) is None


def driver_answer(driver: ConsumerGroupDriver, beat: object) -> ConsumerHeartbeatResult:
    driver.send(beat)  # type: ignore[arg-type]
    result = driver.answers[beat.token]  # type: ignore[attr-defined]
    assert isinstance(result, ConsumerHeartbeatResult)
    return result


class TestStaying:
    def test_a_heartbeat_that_changes_nothing_writes_nothing(self) -> None:
        driver, a, _ = pair()
        commits = len(driver.commits)
        assert a.beat() == ConsumerHeartbeatResult(None, "", "a", a.epoch, 5_000, None)
        assert len(driver.commits) == commits

    def test_a_full_request_is_told_everything(self) -> None:
        _, a, _ = pair()
        a.lose()
        assert a.send().assignment == {topic_id: sorted(parts) for topic_id, parts in a.owned.items()}

    def test_partitions_change_hands_only_once_they_were_given_up(self) -> None:
        driver = driven()
        a, b = driver.client("a"), driver.client("b")
        a.is_slow = True
        a.beat()
        a.finish()
        b.beat()
        driver.advance(1_000)
        assert a.beat().assignment is not None, "told what it keeps"
        assert (a.epoch, b.beat().assignment) == (1, {}), "in the new epoch, with nothing yet"
        a.beat()
        assert b.beat().assignment is None
        a.finish()
        assert a.beat().member_epoch == b.epoch == 2
        assert len(indexes(a)) == 2
        b.beat()
        assert sorted(indexes(a) + indexes(b)) == [0, 1, 2, 3]

    def test_who_gives_up_too_slowly_is_fenced(self) -> None:
        driver = driven()
        a = driver.client("a", rebalance_timeout_ms=20_000)
        a.beat()
        a.is_slow = True
        b = driver.client("b")
        b.beat()
        driver.advance(1_000)
        for _ in range(4):
            assert error_of(a.beat()) is None
            driver.advance(5_000)
        assert error_of(a.beat()) is ErrorKind.UNKNOWN_MEMBER_ID
        driver.advance(1_000)
        b.beat()
        b.beat()
        assert indexes(b) == [0, 1, 2, 3]

    def test_giving_up_in_time_is_not_held_against_it(self) -> None:
        driver = driven()
        a = driver.client("a", rebalance_timeout_ms=20_000)
        b = driver.client("b")
        driver.settle()
        for _ in range(30):
            driver.advance(1_000)
            assert error_of(a.beat()) is error_of(b.beat()) is None

    @pytest.mark.parametrize("epoch", [1, 9])
    def test_any_other_epoch_is_fenced(self, epoch: int) -> None:
        _, a, _ = pair()
        a.epoch = epoch
        assert error_of(a.send()) is ErrorKind.FENCED_MEMBER_EPOCH

    def test_the_previous_epoch_is_taken_from_who_owns_no_more_than_it_may(self) -> None:
        driver, a, b = pair()
        b.leave()
        driver.clients.remove(b)
        driver.advance(1_000)
        before = a.epoch
        assert a.send().member_epoch == before + 1  # and the answer is lost
        assert error_of(a.send()) is ErrorKind.FENCED_MEMBER_EPOCH, "it does not say what it owns"
        a.lose()
        result = a.beat()
        assert (result.error, a.epoch, indexes(a)) == (None, before + 1, [0, 1, 2, 3])
        a.beat()
        a.epoch, a.is_full = before, True
        assert error_of(a.send()) is ErrorKind.FENCED_MEMBER_EPOCH, "it knew its epoch already"

    def test_a_lost_answer_that_asks_for_more_is_given_again(self) -> None:
        driver = driven(consumer_assignment_interval_ms=0)
        a = driver.client("a", is_slow=True)
        a.beat()
        a.finish()
        driver.client("b").beat()
        a.beat()
        driver.client("c").beat()
        driver.client("d").beat()
        a.finish()
        a.lose()
        first = a.send()
        assert (first.error, first.member_epoch, a.epoch) == (None, 2, 1)
        assert a.send() == first, "it owns more than it keeps, and we know that"
        a.hear(first)
        a.finish()
        assert a.beat().member_epoch == 4

    def test_a_new_subscription_is_a_new_target(self) -> None:
        driver = ConsumerGroupDriver(DrivenTopics(t=2, u=2))
        a = driver.client("a")
        driver.settle()
        a.names, a.is_full = ("u",), True
        driver.settle()
        assert [topic_id for topic_id, _ in a.partitions()] == [driver.topics.by_name["u"].topic_id] * 2  # type: ignore[index]

    def test_the_assignor_is_the_one_that_most_ask_for(self) -> None:
        driver = driven()
        for name, assignor in (("a", "range"), ("b", "uniform"), ("c", "range"), ("d", None)):
            driver.client(name, assignor=assignor)
        driver.settle()
        assert described(driver).assignor == "range"
        driver.clients[2].leave()
        driver.clients.pop(2)
        driver.clients[0].leave()
        driver.clients.pop(0)
        driver.settle()
        assert described(driver).assignor == "uniform"

    def test_a_classic_heartbeat_of_such_a_member_is_of_nobody(self) -> None:
        driver, a, _ = pair()
        token = driver.token()
        driver.send(Heartbeat(token, "a", None, a.epoch))
        assert driver.answers[token] is ErrorKind.UNKNOWN_MEMBER_ID


class TestLeaving:
    def test_what_it_had_is_free(self) -> None:
        driver, a, b = pair()
        assert b.leave().member_epoch == -1
        assert b.send().error is None  # it joins again: nobody is in its way
        driver.clients.remove(b)
        b.leave()
        driver.settle()
        assert indexes(a) == [0, 1, 2, 3]

    def test_the_last_one_leaves_an_empty_group(self) -> None:
        driver, a, b = pair()
        a.leave()
        b.leave()
        assert driver.machine.state is GroupState.EMPTY
        assert (driver.deadline_ms, list(driver.rows)) == (None, ["consumer"])

    def test_strangers_cannot_leave(self) -> None:
        driver, _, _ = pair()
        x = driver.client("x")
        assert error_of(x.leave()) is ErrorKind.UNKNOWN_MEMBER_ID
        x.instance_id = "i"
        assert error_of(x.leave(-2)) is ErrorKind.UNKNOWN_MEMBER_ID


class TestStatic:
    def test_it_comes_back_to_what_it_had_and_nobody_moves(self) -> None:
        driver = driven()
        a, b = driver.client("a", instance_id="i"), driver.client("b")
        driver.settle()
        had, epoch = indexes(a), a.epoch
        assert a.leave(-2).member_epoch == -2
        driver.clients.remove(a)
        driver.advance(20_000)
        b.beat()
        returned = driver.client("a2", instance_id="i")
        assert error_of(returned.beat()) is None
        assert (indexes(returned), returned.epoch, b.epoch) == (had, epoch, epoch)
        assert b.beat().assignment is None

    def test_its_place_is_kept_only_for_a_session(self) -> None:
        driver = driven()
        a, b = driver.client("a", instance_id="i"), driver.client("b")
        driver.settle()
        a.leave(-2)
        driver.clients.remove(a)
        for _ in range(5):
            driver.advance(10_000)
            b.beat()
        driver.settle()
        assert indexes(b) == [0, 1, 2, 3]

    def test_an_instance_that_has_not_left_is_not_released(self) -> None:
        driver = driven()
        a, other = driver.client("a", instance_id="i"), driver.client("x", instance_id="i")
        a.beat()
        assert error_of(other.beat()) is ErrorKind.UNRELEASED_INSTANCE_ID
        assert error_of(a.beat()) is None

    def test_who_was_replaced_is_fenced(self) -> None:
        driver = driven()
        a, other = driver.client("a", instance_id="i"), driver.client("x", instance_id="i")
        a.beat()
        a.leave(-2)
        other.beat()
        a.epoch = 1
        assert error_of(a.send()) is ErrorKind.FENCED_INSTANCE_ID
        assert error_of(a.leave(-1)) is ErrorKind.FENCED_INSTANCE_ID

    def test_what_it_sent_before_it_left_does_not_bring_it_back(self) -> None:
        driver = driven()
        a, other = driver.client("a", instance_id="i"), driver.client("x", instance_id="i")
        a.beat()
        a.lose()
        late = a.request()
        a.leave(-2)
        assert error_of(driver_answer(driver, late)) is ErrorKind.FENCED_MEMBER_EPOCH
        assert error_of(other.beat()) is None, "its instance is free"

    def test_it_may_come_back_under_its_own_id(self) -> None:
        driver = driven()
        a = driver.client("a", instance_id="i")
        a.beat()
        a.leave(-2)
        driver.reload()
        assert (a.beat().member_epoch, indexes(a)) == (1, [0, 1, 2, 3])


class TestOffsets:
    PARTITION = PartitionId(TopicId(b"p" * 16), 0)

    def commit(self, driver: ConsumerGroupDriver, member_id: str, epoch: int, epochs_known: bool = True) -> object:
        token = driver.token()
        offsets = {self.PARTITION: CommittedOffset(1, -1, "", driver.now.wall_ms)}
        driver.send(CommitOffsets(token, member_id, None, epoch, offsets, epochs_known))
        return driver.answers[token]

    def test_only_the_members_epoch_commits(self) -> None:
        driver, a, _ = pair()
        assert self.commit(driver, "a", a.epoch) is None
        assert self.commit(driver, "a", a.epoch - 1) is ErrorKind.STALE_MEMBER_EPOCH
        assert self.commit(driver, "a", a.epoch + 1) is ErrorKind.STALE_MEMBER_EPOCH
        assert self.commit(driver, "x", a.epoch) is ErrorKind.UNKNOWN_MEMBER_ID
        assert self.commit(driver, "", -1) is ErrorKind.UNKNOWN_MEMBER_ID
        assert self.commit(driver, "a", a.epoch, epochs_known=False) is ErrorKind.UNSUPPORTED_VERSION

    def test_anybody_commits_to_an_empty_group(self) -> None:
        driver, a, b = pair()
        a.leave()
        b.leave()
        assert self.commit(driver, "", -1) is None

    def test_producers_may_leave_the_member_out(self) -> None:
        driver, a, _ = pair()
        for member_id, epoch, error in (
            ("", -1, None),
            ("a", a.epoch, None),
            ("a", a.epoch - 1, ErrorKind.STALE_MEMBER_EPOCH),
            ("x", 1, ErrorKind.UNKNOWN_MEMBER_ID),
        ):
            token = driver.token()
            offsets = {self.PARTITION: CommittedOffset(1, -1, "", 0)}
            driver.send(CommitPending(token, "tx", 1, member_id, None, epoch, offsets))
            assert driver.answers[token] is error

    def test_fetches_name_the_members_epoch_or_nobody(self) -> None:
        driver, a, _ = pair()
        self.commit(driver, "a", a.epoch)
        for member_id, epoch, error in (
            (None, -1, None),
            ("a", a.epoch, None),
            ("a", a.epoch - 1, ErrorKind.STALE_MEMBER_EPOCH),
            ("x", a.epoch, ErrorKind.UNKNOWN_MEMBER_ID),
        ):
            token = driver.token()
            driver.send(FetchOffsets(token, None, member_id=member_id, member_epoch=epoch))
            result = driver.answers[token]
            assert isinstance(result, FetchedOffsets)
            assert (result.error, len(result.committed)) == (error, 0 if error else 1)

    def test_offsets_of_subscribed_topics_are_kept_and_not_deleted(self) -> None:
        driver, a, _ = pair()
        topic_id = driver.topics.by_name["t"].topic_id  # type: ignore[index]
        partitions = [PartitionId(topic_id, 0), self.PARTITION]
        assert driver.commit(dict.fromkeys(partitions, 3), "a", a.epoch) is None
        token = driver.token()
        driver.send(DeleteOffsets(token, [("t", partitions[0])]))
        assert driver.answers[token] == DeleteOffsetsResult(None, [ErrorKind.GROUP_SUBSCRIBED_TO_TOPIC])
        for _ in range(4):  # members have to live on
            driver.now = driver.now._replace(wall_ms=driver.now.wall_ms + 3 * DAY_MS)
            driver.send(ExpireOffsets({topic_id: "t", self.PARTITION.topic_id: "p"}))
        assert [partition for partition, _ in driver.machine.offsets.items()] == partitions[:1]


def described(driver: ConsumerGroupDriver) -> ConsumerDescription:
    token = driver.token()
    driver.send(DescribeConsumer(token))
    result = driver.answers[token]
    assert isinstance(result, ConsumerDescription)
    return result


class TestForPeople:
    def test_epochs_subscriptions_and_assignments_are_told(self) -> None:
        driver = driven()
        driver.client("a", regex="t.*", names=("z",), instance_id="i")
        driver.settle(2)
        told = described(driver)
        (member,) = told.members
        topic_id = driver.topics.by_name["t"].topic_id  # type: ignore[index]
        assert (told.state, told.group_epoch, told.assignment_epoch, told.assignor) == (
            GroupState.STABLE,
            1,
            1,
            "uniform",
        )
        assert (member.member_id, member.instance_id, member.member_epoch, member.is_classic) == ("a", "i", 1, False)
        assert (member.subscribed_names, member.subscribed_regex) == (("z",), "t.*")
        assert member.assignment == member.target == {topic_id: [0, 1, 2, 3]}

    def test_each_kind_is_described_as_what_it_is(self) -> None:
        driver, _, _ = pair()
        token = driver.token()
        driver.send(Describe(token))
        assert driver.answers[token] == Description(GroupState.DEAD)
        assert driver.machine.group_type == "consumer"
        assert described(driven()) == ConsumerDescription(GroupState.DEAD)

    def test_only_an_empty_group_is_deleted(self) -> None:
        driver, a, b = pair()
        token = driver.token()
        driver.send(DeleteGroup(token))
        assert driver.answers[token] is ErrorKind.NON_EMPTY_GROUP
        a.leave()
        b.leave()
        token = driver.token()
        driver.send(DeleteGroup(token))
        assert (driver.answers[token], driver.rows, driver.machine.exists) == (None, {}, False)
