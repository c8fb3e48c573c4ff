"""Members that speak the classic protocol in a group of the consumer protocol."""

from __future__ import annotations

from riverlog.base.errors import ErrorKind
from riverlog.state.groups.commands import GroupSettings, JoinResult, Leaver, LeaveResult, Protocols, SyncResult
from riverlog.state.groups.consumer import ConsumerSide
from riverlog.state.groups.consumer_protocol import decode_assignment
from riverlog.testing.consumer_driver import ConsumerClient, ConsumerGroupDriver, DrivenTopics
from riverlog.testing.group_driver import cooperative_subscription, subscription


def driven(**settings: int) -> tuple[ConsumerGroupDriver, ConsumerClient]:
    """A group of one consumer member, which has all four partitions."""
    driver = ConsumerGroupDriver(DrivenTopics(t=4), settings=GroupSettings(**settings))  # type: ignore[arg-type]
    client = driver.client("x")
    client.beat()
    return driver, client


def join(driver: ConsumerGroupDriver, member_id: str = "", **options: object) -> JoinResult:
    result = driver.answers[driver.join(member_id, **options)]  # type: ignore[arg-type]
    assert isinstance(result, JoinResult)
    return result


def sync(driver: ConsumerGroupDriver, joined: JoinResult, **options: object) -> SyncResult:
    token = driver.sync(joined.member_id, joined.generation, **options)  # type: ignore[arg-type]
    result = driver.answers[token]
    assert isinstance(result, SyncResult)
    return result


def parts(result: SyncResult) -> dict[str, list[int]]:
    assert result.error is None, result.error
    return {name: list(indexes) for name, indexes in decode_assignment(result.assignment)[0].items()}


def keeps(driver: ConsumerGroupDriver, *owned: int) -> Protocols:
    return (("cooperative-sticky", cooperative_subscription(["t"], {"t": owned}, 1)),)


class TestJoining:
    def test_it_is_answered_at_once_with_its_epoch_and_follows(self) -> None:
        driver, _ = driven(consumer_assignment_interval_ms=0)
        joined = join(driver)
        assert joined == JoinResult(None, joined.member_id, 2, "consumer", "range")
        assert sync(driver, joined) == SyncResult(None, sync(driver, joined).assignment, "consumer", "range")
        assert parts(sync(driver, joined)) == {}

    def test_it_gets_what_others_give_up(self) -> None:
        driver, x = driven(consumer_assignment_interval_ms=0)
        joined = join(driver)
        sync(driver, joined)
        assert driver.beat(joined.member_id, 2) is None, "nothing is free yet"
        x.beat()
        x.beat()
        assert driver.beat(joined.member_id, 2) is ErrorKind.REBALANCE_IN_PROGRESS
        given = parts(sync(driver, join(driver, joined.member_id)))["t"]
        assert sorted([*given, *(index for _, index in x.partitions())]) == [0, 1, 2, 3]

    def test_an_eager_one_gives_all_up_by_joining(self) -> None:
        driver, x = driven(consumer_assignment_interval_ms=0)
        joined = join(driver)
        x.beat()
        x.beat()
        sync(driver, join(driver, joined.member_id))
        y = driver.client("y")
        y.beat()
        assert driver.beat(joined.member_id, 2) is ErrorKind.REBALANCE_IN_PROGRESS
        again = join(driver, joined.member_id)
        assert again.generation == 3
        x.beat()
        x.beat()
        y.beat()
        given = len(x.partitions()) + len(y.partitions()) + len(parts(sync(driver, again)).get("t", []))
        assert given == 4

    def test_a_cooperative_one_joins_again_once_it_gave_up(self) -> None:
        driver, x = driven(consumer_assignment_interval_ms=0)
        joined = join(driver, protocols=keeps(driver))
        x.beat()
        x.beat()
        had = parts(sync(driver, join(driver, joined.member_id, protocols=keeps(driver))))["t"]
        assert len(had) == 2
        for name in "yz":
            driver.client(name).beat()
        again = join(driver, joined.member_id, protocols=keeps(driver, *had))
        assert again.generation == 2, "it has to give up first, so it stays in its epoch"
        left = parts(sync(driver, again))["t"]
        assert set(left) < set(had)
        assert driver.beat(joined.member_id, 2) is ErrorKind.REBALANCE_IN_PROGRESS
        done = join(driver, joined.member_id, protocols=keeps(driver, *left))
        assert (done.generation, parts(sync(driver, done))["t"]) == (4, left)

    def test_who_has_no_id_is_given_one(self) -> None:
        driver, _ = driven()
        asked = join(driver, member_id_required=True)
        assert asked.error is ErrorKind.MEMBER_ID_REQUIRED
        assert join(driver, asked.member_id, member_id_required=True).error is None

    def test_who_was_fenced_and_still_owns_something_is_not_let_in_with_it(self) -> None:
        driver, _ = driven()
        assert join(driver, "old", protocols=keeps(driver, 0)).error is ErrorKind.UNKNOWN_MEMBER_ID
        assert join(driver, "old", protocols=keeps(driver)).error is None

    def test_what_is_no_consumer_is_refused(self) -> None:
        driver, _ = driven(consumer_members_max=2)
        refused = ErrorKind.INCONSISTENT_GROUP_PROTOCOL
        assert join(driver, protocol_type="connect").error is refused
        assert join(driver, protocols=(("range", b"\x00"),)).error is refused
        assert join(driver, protocols=()).error is refused
        assert join(driver, session_timeout_ms=1).error is ErrorKind.INVALID_SESSION_TIMEOUT
        assert join(driver).error is None
        assert join(driver, protocols=(("other", subscription("t")),)).error is ErrorKind.GROUP_FULL

    def test_classic_ones_need_a_protocol_in_common(self) -> None:
        driver, _ = driven()
        assert join(driver).error is None
        other = join(driver, protocols=(("other", subscription("t")),))
        assert other.error is ErrorKind.INCONSISTENT_GROUP_PROTOCOL

    def test_a_static_one_takes_its_instance_over(self) -> None:
        driver, _ = driven()
        first = join(driver, instance_id="i")
        second = join(driver, instance_id="i")
        assert (second.error, second.member_id != first.member_id) == (None, True)
        assert join(driver, first.member_id, instance_id="i").error is ErrorKind.FENCED_INSTANCE_ID
        assert join(driver, "x", instance_id="j").error is ErrorKind.UNKNOWN_MEMBER_ID
        assert driver.beat(first.member_id, 1, "i") is ErrorKind.FENCED_INSTANCE_ID
        consumer = driver.client("c", instance_id="i")
        assert consumer.beat().error is None, "a classic one never says that it leaves"
        assert driver.beat(second.member_id, 1, "i") is ErrorKind.FENCED_INSTANCE_ID


class TestStaying:
    def test_generation_and_protocol_must_be_its_own(self) -> None:
        driver, _ = driven()
        joined = join(driver)
        assert driver.beat(joined.member_id, 9) is ErrorKind.ILLEGAL_GENERATION
        assert driver.beat("nobody", 1) is ErrorKind.UNKNOWN_MEMBER_ID
        assert sync(driver, joined._replace(generation=9)).error is ErrorKind.ILLEGAL_GENERATION
        assert sync(driver, joined, protocol="sticky").error is ErrorKind.INCONSISTENT_GROUP_PROTOCOL
        assert sync(driver, joined, protocol_type="connect").error is ErrorKind.INCONSISTENT_GROUP_PROTOCOL
        assert driver.commit({}, joined.member_id, 9) is ErrorKind.ILLEGAL_GENERATION
        assert driver.commit({}, joined.member_id, joined.generation) is None

    def test_a_sync_behind_the_target_is_called_back(self) -> None:
        driver, _ = driven(consumer_assignment_interval_ms=0)
        joined = join(driver)
        driver.client("y").beat()
        assert sync(driver, joined).error is ErrorKind.REBALANCE_IN_PROGRESS

    def test_its_own_session_counts(self) -> None:
        driver, x = driven()
        joined = join(driver, session_timeout_ms=10_000)
        sync(driver, joined)
        driver.advance(9_999)
        assert driver.machine.member_count == 2
        driver.advance(1)
        assert driver.machine.member_count == 1
        assert x.beat().error is None

    def test_who_does_not_come_back_when_called_is_out(self) -> None:
        driver, _ = driven(consumer_assignment_interval_ms=0)
        joined = join(driver, rebalance_timeout_ms=20_000)
        sync(driver, joined)
        driver.client("y").beat()
        for _ in range(4):
            assert driver.beat(joined.member_id, 2) is ErrorKind.REBALANCE_IN_PROGRESS
            driver.advance(5_000)
        assert driver.beat(joined.member_id, 2) is ErrorKind.UNKNOWN_MEMBER_ID

    def test_who_never_asks_for_its_part_is_out(self) -> None:
        driver, _ = driven()
        joined = join(driver, rebalance_timeout_ms=15_000)
        for _ in range(3):
            driver.beat(joined.member_id, joined.generation)
            driver.advance(5_000)
        assert driver.beat(joined.member_id, joined.generation) is ErrorKind.UNKNOWN_MEMBER_ID

    def test_leaving(self) -> None:
        driver, _ = driven()
        a, b = join(driver), join(driver, instance_id="i")
        unknown = ErrorKind.UNKNOWN_MEMBER_ID
        left = driver.leave(Leaver(a.member_id), Leaver(a.member_id), Leaver("", "i"), Leaver("x"), Leaver("", "j"))
        assert left == LeaveResult([None, unknown, None, unknown, unknown])
        assert b.member_id
        assert isinstance(driver.machine.side, ConsumerSide)
        assert list(driver.machine.side.roster.members) == ["x"]
