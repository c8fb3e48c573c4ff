"""How often members are heard: counts over a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from riverlog.broker.telemetry import Telemetry
from riverlog.env.tasks import Tasks
from riverlog.gateways.kafka import pacing
from riverlog.gateways.kafka.pacing import (
    OF_A_CONNECTION,
    OF_A_MEMBER,
    OF_STRANGERS,
    Bucket,
    Pace,
    Rate,
    first_burst,
    member_of,
)
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest
from riverlog.gateways.kafka.schema.leave_group import LeaveGroupRequest, MemberIdentity
from riverlog.testing.clock import ManualClock
from riverlog.testing.topic_world import settled


class Flooder:
    """A connection that has a request as soon as the one before may go."""

    def __init__(self, pace: Pace, group_id: str, member_id: str) -> None:
        self.pace = pace
        self.name = group_id, member_id
        self.went = 0
        self.is_open = True
        self.strangers: Bucket | None = None

    def send(self) -> None:
        while self.pace.take(*self.name, self):
            self.went += 1

    def may_go(self) -> bool:
        if self.is_open:
            self.went += 1
            self.send()
        return self.is_open


class Waiting:
    """A connection with one request."""

    def __init__(self) -> None:
        self.may = False
        self.strangers: Bucket | None = None

    def may_go(self) -> bool:
        self.may = True
        return True


def run(story: Callable[[Pace, ManualClock], Awaitable[None]]) -> None:
    async def play() -> None:
        clock, tasks = ManualClock(), Tasks("test")
        await story(Pace(clock, tasks, Telemetry()), clock)
        await tasks.close()

    asyncio.run(play())


async def pass_seconds(clock: ManualClock, seconds: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(seconds * 20):
        clock.advance(50)
        for _ in range(3):
            turn: asyncio.Future[None] = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn


@pytest.mark.parametrize("connections", [1, 50])
def test_a_member_that_floods_gets_its_rate_by_however_many_connections(connections: int) -> None:
    async def story(pace: Pace, clock: ManualClock) -> None:
        flooders = [Flooder(pace, "g", "m") for _ in range(connections)]
        for flooder in flooders:
            flooder.send()
        assert sum(flooder.went for flooder in flooders) == 1 + first_burst  # the first one as a stranger
        await pass_seconds(clock, 10)
        went = sum(flooder.went for flooder in flooders) - 1 - first_burst
        assert went == pytest.approx(10 * OF_A_MEMBER.per_second, abs=connections)
        assert pace._telemetry.delayed_requests >= went

    run(story)


def test_the_others_of_the_group_and_other_groups_do_not_wait() -> None:
    async def story(pace: Pace, clock: ManualClock) -> None:
        Flooder(pace, "g", "m").send()
        for _ in range(10):
            await pass_seconds(clock, 1)
            for group_id, member_id in (("g", "other"), ("h", "m")):
                assert pace.take(group_id, member_id, Waiting())
        assert pace._telemetry.delayed_requests >= 10 * OF_A_MEMBER.per_second

    run(story)


def test_a_thousand_members_that_start_at_once_and_beat_each_second_never_wait() -> None:
    async def story(pace: Pace, clock: ManualClock) -> None:
        for number in range(1_000):
            for _ in range(3):  # asks for an id, joins, syncs
                assert pace.take("g", f"m{number}", Waiting())
            assert pace.take("g", "", Waiting())
        for _ in range(5):
            clock.advance(1_000)
            assert all(pace.take("g", f"m{number}", Waiting()) for number in range(1_000))
        assert pace._telemetry.delayed_requests == 0

    run(story)


def test_joins_of_ever_new_members_share_one_rate() -> None:
    async def story(pace: Pace, clock: ManualClock) -> None:
        nobodies = [Flooder(pace, "g", "") for _ in range(2 * OF_STRANGERS.burst // OF_A_CONNECTION.burst)]
        for nobody in nobodies:
            nobody.send()
        assert sum(nobody.went for nobody in nobodies) == OF_STRANGERS.burst
        late = Waiting()
        assert not pace.take("g", "a new one", late)
        for nobody in nobodies:
            nobody.is_open = False
        await pass_seconds(clock, 1)
        assert late.may  # in its turn, whoever went away before it
        assert pace.take("g", "another", Waiting())

    run(story)


def test_who_makes_up_a_new_member_or_group_for_each_request_gets_the_rate_of_its_connection() -> None:
    async def story(pace: Pace, clock: ManualClock) -> None:
        for names in ([("g", f"m{n}") for n in range(1_000)], [(f"g{n}", "m") for n in range(1_000)]):
            liar = Waiting()
            went = 0
            for name in names:
                while pace.take(*name, liar):  # each name as often as it can
                    went += 1
                if liar.strangers is not None and liar.strangers.waiting:
                    break
            assert went <= OF_A_CONNECTION.burst * (1 + first_burst)
            assert pace.take("quiet", "q", Waiting())

    run(story)


def test_new_members_of_all_groups_share_one_rate_and_nobody_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "OF_ALL_STRANGERS", Rate(burst=100, per_second=10))

    async def story(pace: Pace, clock: ManualClock) -> None:
        comers = [Waiting() for _ in range(150)]
        went = [pace.take(f"g{number}", "m", one) for number, one in enumerate(comers)]
        assert went == [True] * 100 + [False] * 50
        await pass_seconds(clock, 2)
        assert [one.may for one in comers[100:]] == [True] * 20 + [False] * 30
        await pass_seconds(clock, 3)
        assert all(one.may for one in comers[100:])

    run(story)


def test_who_waited_to_be_known_is_known_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "OF_STRANGERS", Rate(burst=1, per_second=1))

    async def story(pace: Pace, clock: ManualClock) -> None:
        assert pace.take("g", "first", Waiting())
        second, third = Waiting(), Waiting()
        assert not pace.take("g", "second", second)
        assert not pace.take("g", "third", third)
        await pass_seconds(clock, 1)
        assert (second.may, third.may) == (True, False)
        pace.went("g", "second")
        assert pace.take("g", "second", second), "though somebody waits to be known"

    run(story)


def test_waiting_is_served_in_order() -> None:
    async def story(pace: Pace, clock: ManualClock) -> None:
        first = Flooder(pace, "g", "m")
        first.send()
        waiting = [Waiting() for _ in range(3)]
        for one in waiting:
            assert not pace.take("g", "m", one)
        first.is_open = False
        for count in range(1, 4):
            clock.advance(1_000 // OF_A_MEMBER.per_second)
            await settled(lambda count=count: [one.may for one in waiting] == [i < count for i in range(3)])  # type: ignore[misc]

    run(story)


def test_the_number_of_buckets_is_limited_and_who_waits_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "buckets_max", 10)
    monkeypatch.setattr(pacing, "OF_STRANGERS", Rate(burst=10_000, per_second=1))

    async def story(pace: Pace, clock: ManualClock) -> None:
        flooder = Flooder(pace, "g", "m")
        flooder.send()
        for number in range(1_000):
            assert pace.take(f"g{number}", "m", Waiting())
        assert len(pace._buckets) <= 11
        assert ("g", "m") in pace._buckets
        went = flooder.went
        await pass_seconds(clock, 1)
        assert flooder.went > went

    run(story)


def test_whom_a_request_is_from() -> None:
    assert member_of(HeartbeatRequest(group_id="g", generation_id=1, member_id="m")) == "m"
    assert member_of(LeaveGroupRequest(group_id="g", member_id="old")) == "old"
    leaving = [MemberIdentity(member_id="a"), MemberIdentity(member_id="b")]
    assert member_of(LeaveGroupRequest(group_id="g", members=leaving)) == "a"
