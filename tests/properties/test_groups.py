"""Random histories of one group: members of all kinds that join, change, sync, beat, leave, fall silent, and restarts.

Whatever they do: no request is lost or answered twice, none waits beyond its time-out, a generation is one agreement, nobody
holds a part that the current generation gave to somebody else, and the rows always give the machine back.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.classic import ClassicSide
from riverlog.state.groups.commands import GroupSettings, GroupState, JoinResult, Leaver, Protocols, SyncResult, Token
from riverlog.state.groups.group import Group
from riverlog.testing.group_driver import GroupDriver, subscription

REBALANCE_MS_MAX: Final = 60_000
OFFERS: Final[tuple[Protocols, ...]] = (
    (("range", subscription("t")),),
    (("range", subscription("t", "u")), ("sticky", b"s")),
    (("sticky", b"s"), ("range", subscription("u"))),
)
PARTITION: Final = PartitionId(TopicId(b"t" * 16), 0)

small = st.integers(0, 5)
action = st.one_of(
    st.tuples(st.just("join"), st.booleans(), st.integers(0, 2)),
    st.tuples(st.just("static"), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("rejoin"), small, st.integers(0, 2)),
    st.tuples(st.just("rejoin all"), st.just(0), st.integers(0, 2)),
    st.tuples(st.just("sync"), small, st.just(0)),
    st.tuples(st.just("sync all"), st.just(0), st.just(0)),
    st.tuples(st.just("settle"), st.just(0), st.integers(0, 2)),
    st.tuples(st.just("grow"), st.integers(2, 4), st.integers(0, 2)),
    st.tuples(st.just("beat"), small, st.integers(0, 1)),
    st.tuples(st.just("leave"), small, small),
    st.tuples(st.just("unsettle"), small, st.integers(0, 2)),
    st.tuples(st.just("commit"), small, st.integers(0, 1)),
    st.tuples(st.just("wait"), st.sampled_from([1, 2_000, 5_000, 11_000, 61_000]), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
)


class History:
    """Plays actions on a machine, and remembers what clients were told."""

    def __init__(self, initial_delay_ms: int) -> None:
        self.driver = GroupDriver(GroupSettings(initial_rebalance_delay_ms=initial_delay_ms, members_max=4))
        self.asked: dict[Token, int] = {}  # the requests that may wait -> when they were sent, monotonic
        self.known: dict[str, str | None] = {}  # the ids that clients were told -> their instance
        self.instances: dict[Token, str | None] = {}
        self.generation = 0
        self.agreed: dict[int, tuple[str | None, str]] = {}  # generation -> protocol and nonce of its assignment
        self.nonce = 0

    def play(self, what: str, first: int, second: int) -> None:
        driver, side = self.driver, self.driver.classic
        member_id = sorted(self.known)[first % len(self.known)] if self.known else ""
        instance_id = self.known.get(member_id)
        match what:
            case "join":
                self.sent(driver.join(member_id_required=bool(first), protocols=OFFERS[second]), None)
            case "static":
                name = f"i{first}"
                self.sent(driver.join(instance_id=name, protocols=OFFERS[second]), name)
            case "rejoin" if member_id:
                self.sent(driver.join(member_id, instance_id=instance_id, protocols=OFFERS[second]), instance_id)
            case "rejoin all":
                for each, instance in sorted(self.known.items()):
                    self.sent(driver.join(each, instance_id=instance, protocols=OFFERS[second]), instance)
            case "sync" if member_id:
                self.sync(member_id, instance_id)
            case "sync all":
                for each, instance in sorted(self.known.items(), key=lambda one: one[0] == side.membership.leader):
                    self.sync(each, instance)
            case "settle":
                self.play("rejoin all", 0, second)
                self.hear()
                self.play("sync all", 0, 0)
            case "grow":
                for _ in range(first):
                    self.play("join", 0, second)
                self.play("settle", 0, second)
            case "beat" if member_id:
                driver.beat(member_id, side.generation - second, instance_id)
            case "unsettle" if member_id:  # somebody changes its mind, and perhaps goes while it waits
                self.play("rejoin", first, second)
                self.play("static", first % 3, second)
                if first % 2:
                    self.play("leave", first, first)
            case "leave" if member_id:
                others = sorted(self.known)[second % len(self.known)]
                driver.leave(Leaver(member_id, instance_id), Leaver(others))
            case "commit":
                driver.commit({PARTITION: first}, member_id if second else "", side.generation if second else -1)
            case "wait":
                driver.advance(first)
            case "restart":
                driver.reload()
                self.asked.clear()
                self.generation = driver.classic.generation
                self.agreed = {g: one for g, one in self.agreed.items() if g <= self.generation}

    def sent(self, token: Token, instance_id: str | None) -> None:
        self.asked[token] = self.driver.now.monotonic_ms
        self.instances[token] = instance_id

    def sync(self, member_id: str, instance_id: str | None) -> None:
        self.nonce += 1
        members = [member.member_id for member in self.driver.classic.membership]
        parts = {each: f"{self.nonce} {each}".encode() for each in members}
        token = self.driver.sync(member_id, self.driver.classic.generation, parts, instance_id=instance_id)
        self.sent(token, instance_id)

    def hear(self) -> None:
        """What clients learn from the answers that came."""
        for token in [token for token in self.asked if token in self.driver.answers]:
            del self.asked[token]
            result = self.driver.answers[token]
            if isinstance(result, JoinResult):
                if result.member_id:
                    self.known[result.member_id] = self.instances[token]
                if result.error is None:
                    self.hear_join(result)
            elif isinstance(result, SyncResult) and result.error is None and result.assignment:
                self.hear_sync(result)

    def hear_join(self, result: JoinResult) -> None:
        assert result.generation >= self.generation, "a generation fell"
        self.generation = result.generation
        protocol, _ = self.agreed.setdefault(result.generation, (result.protocol, ""))
        assert result.protocol == protocol, "two protocols in one generation"
        if result.members:
            assert result.leader == result.member_id
            assert len({member.member_id for member in result.members}) == len(result.members)

    def hear_sync(self, result: SyncResult) -> None:
        nonce = result.assignment.split()[0].decode()
        protocol, agreed = self.agreed[self.driver.classic.generation]
        assert agreed in ("", nonce), "two assignments in one generation"
        self.agreed[self.driver.classic.generation] = (protocol, nonce)

    def check(self) -> None:
        driver, machine, side = self.driver, self.driver.machine, self.driver.classic
        membership = side.membership
        assert set(machine.waiting()) == set(self.asked), "a request is lost, or waits for nothing"
        for token, sent_ms in self.asked.items():
            assert driver.now.monotonic_ms - sent_ms <= REBALANCE_MS_MAX, f"{token} waits too long"
        assert driver.deadline_ms == machine.deadline_ms
        if (next_ms := side._next_deadline()) is not None:
            assert machine.deadline_ms is not None
            assert machine.deadline_ms <= next_ms
        offered = Counter(name for member in membership for name, _ in member.protocols)
        assert +membership.support == offered
        assert membership.joining_count == sum(member.joining is not None for member in membership)
        assert membership.static == {m.instance_id: m.member_id for m in membership if m.instance_id is not None}
        assert (membership.leader is None) == (not membership.members)
        assert membership.joining_count <= 4
        assert (machine.state is GroupState.EMPTY) <= (not membership.members)
        if machine.state is GroupState.STABLE:
            self.check_stable()
        loaded = Group.load("g", driver.rows, driver.settings, driver.topics, driver.now)
        assert isinstance(loaded.side, ClassicSide)
        assert loaded.side._stored == side._stored
        assert dict(loaded.offsets.items()) == dict(machine.offsets.items())

    def check_stable(self) -> None:
        """Nobody has a part of another generation, and no two have the same."""
        side = self.driver.classic
        parts = [member.assignment for member in side.membership if member.assignment]
        assert len(set(parts)) == len(parts)
        assert len({part.split()[0] for part in parts}) <= 1
        assert not side.membership.joining_count
        stored = ClassicSide.load("g", self.driver.rows, self.driver.settings, self.driver.now)
        assert stored.generation == side.generation
        assert stored.membership.leader == side.membership.leader
        assert {m.member_id: m.assignment for m in stored.membership} == {
            m.member_id: m.assignment for m in side.membership
        }


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(st.sampled_from([0, 3_000]), st.lists(action, min_size=15, max_size=60))
def test_any_history_keeps_the_promises(initial_delay_ms: int, actions: list[tuple[str, int, int]]) -> None:
    history = History(initial_delay_ms)
    for what, first, second in actions:
        history.play(what, first, second)
        history.hear()
        history.check()
    history.driver.advance(REBALANCE_MS_MAX)
    history.hear()
    assert not history.asked, "somebody still waits"
    history.driver.advance(10 * REBALANCE_MS_MAX)
    history.hear()
    history.check()
    assert history.driver.machine.state is GroupState.EMPTY, "the silent are gone"
    assert history.driver.deadline_ms is None
