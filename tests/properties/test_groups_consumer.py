"""Random histories of a group of the consumer protocol: members that join, lose requests and replies, pause for minutes, die
and come back; static ones; classic ones in the same group; topics that grow and go; a coordinator that is loaded again.

Whatever they do: no partition is ever owned by two members, where a member owns what it was last told (or still has not
said that it gave up) until its session has run out at the coordinator; an epoch that is not the member's commits nothing;
rows always give the machine back; and once all beat, the group settles on its target, even within one.

Not played, because the protocol itself does not survive it: a member that has not taken up yet what it was given says in a
full request that it does not own it, the answer that takes it away is lost, and the member takes it up after all. It is
fenced at its next heartbeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.state.groups.commands import GroupSettings, GroupState, JoinResult, Leaver, SyncResult, Token
from riverlog.state.groups.consumer import ConsumerSide
from riverlog.state.groups.consumer_protocol import decode_assignment, decode_subscription, encode_assignment
from riverlog.state.groups.group import Group
from riverlog.testing.consumer_driver import ConsumerClient, ConsumerGroupDriver, DrivenTopics
from riverlog.testing.group_driver import cooperative_subscription

SUBSCRIPTIONS: Final[Sequence[tuple[tuple[str, ...], str | None]]] = (
    (("t",), None),
    (("t", "u"), None),
    ((), "[tv].*"),
    (("u",), "v"),
)
small = st.integers(0, 5)
action = st.one_of(
    st.tuples(st.just("new"), st.integers(0, 3), st.integers(0, 5)),
    st.tuples(st.just("new classic"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("beat"), small, st.just(0)),
    st.tuples(st.just("lose request"), small, st.just(0)),
    st.tuples(st.just("lose reply"), small, st.just(0)),
    st.tuples(st.just("finish"), small, st.just(0)),
    st.tuples(st.just("twice"), small, st.just(0)),
    st.tuples(st.just("resubscribe"), small, st.integers(0, 3)),
    st.tuples(st.just("leave"), small, st.just(0)),
    st.tuples(st.just("leave for a while"), small, st.just(0)),
    st.tuples(st.just("die"), small, st.just(0)),
    st.tuples(st.just("commit"), small, st.integers(-1, 1)),
    st.tuples(st.just("grow"), st.integers(0, 2), st.integers(1, 7)),
    st.tuples(st.just("delete"), st.integers(1, 2), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([100, 1_000, 20_000, 61_000]), st.just(0)),
    st.tuples(st.just("all beat"), st.just(1), st.just(0)),
    st.tuples(st.just("all beat"), st.just(3), st.just(0)),
    st.tuples(st.just("reload"), st.just(0), st.just(0)),
)


@dataclass
class ClassicClient:
    """A cooperative consumer of the classic protocol: it keeps what it has while it joins, then gives up what it must."""

    driver: ConsumerGroupDriver
    topics: tuple[str, ...]
    instance_id: str | None = None
    member_id: str = ""
    generation: int = -1
    state: str = "join"  # join, wait for the join, sync, wait for the sync, stable
    waits: int = -1  # the token
    is_leader: bool = False

    def __post_init__(self) -> None:
        self.owned: dict[str, set[int]] = {}
        self.ids: dict[str, TopicId] = {}
        self.generation_told = -1

    def partitions(self) -> list[tuple[TopicId, int]]:
        """Its protocol names topics: of one that was made again it owns the old one until it hears of it."""
        return [(self.ids[name], index) for name, indexes in self.owned.items() for index in indexes]

    def join_again(self) -> None:
        self.state = "join"

    def forget(self) -> None:
        self.owned, self.member_id, self.generation, self.state = {}, "", -1, "join"

    def beat(self) -> None:
        """One step of its life."""
        driver = self.driver
        if self.state == "join":
            metadata = cooperative_subscription(self.topics, self.owned, self.generation_told)
            self.waits = driver.join(
                self.member_id, instance_id=self.instance_id, protocols=(("cooperative-sticky", metadata),)
            )
            self.state = "joining"
        elif self.state == "sync":
            self.waits = driver.sync(self.member_id, self.generation, instance_id=self.instance_id)
            self.state = "syncing"
        elif self.state == "stable":
            error = driver.beat(self.member_id, self.generation, self.instance_id)
            if error is ErrorKind.REBALANCE_IN_PROGRESS:
                self.state = "join"
            elif error is not None:
                self.forget()
        self.hear()

    def hear(self) -> None:
        if self.state in ("joining", "syncing") and self.waits in self.driver.answers:
            result = self.driver.answers[Token(self.waits)]
            if isinstance(result, JoinResult):
                self.hear_join(result)
            elif isinstance(result, SyncResult):
                self.hear_sync(result)

    def hear_join(self, result: JoinResult) -> None:
        if result.error is None:
            self.member_id, self.generation = result.member_id, result.generation
            self.is_leader = result.leader == result.member_id
            if self.is_leader:
                self.assign(result)
                return
            self.state = "sync"
        elif result.error is ErrorKind.REBALANCE_IN_PROGRESS:
            self.state = "join"
        else:
            self.forget()

    def assign(self, result: JoinResult) -> None:
        """As a sticky leader: a partition that somebody else still owns is given to nobody."""
        members = {member.member_id: decode_subscription(member.metadata) for member in result.members}
        owned = {
            (name, index): member_id
            for member_id, subscription in members.items()
            for name, indexes in subscription.owned.items()
            for index in indexes
        }
        plan: dict[str, dict[str, list[int]]] = {member_id: {} for member_id in members}
        for name in sorted({name for subscription in members.values() for name in subscription.topics}):
            readers = sorted(m for m, subscription in members.items() if name in subscription.topics)
            topic = self.driver.topics.by_name.get(TopicName(name))
            for index in range(0 if topic is None else topic.partition_count):
                wanted = readers[index % len(readers)]
                if owned.get((name, index), wanted) == wanted:
                    plan[wanted].setdefault(name, []).append(index)
        self.state = "syncing"
        parts = {member_id: encode_assignment(partitions) for member_id, partitions in plan.items()}
        self.waits = self.driver.sync(self.member_id, self.generation, parts, instance_id=self.instance_id)
        self.hear()

    def hear_sync(self, result: SyncResult) -> None:
        if result.error is None:
            partitions, _ = decode_assignment(result.assignment)
            before = {(name, index) for name, indexes in self.owned.items() for index in indexes}
            self.owned = {name: set(indexes) for name, indexes in partitions.items()}
            topics = self.driver.topics.by_name
            self.ids.update((name, topics[TopicName(name)].topic_id) for name in partitions if name in topics)
            self.generation_told = self.generation
            after = {(name, index) for name, indexes in self.owned.items() for index in indexes}
            self.state = "join" if before - after else "stable"
        elif result.error is ErrorKind.REBALANCE_IN_PROGRESS:
            self.state = "join"
        else:
            self.forget()


class History:
    def __init__(self, interval_ms: int, assignor: str) -> None:
        options = GroupSettings(
            consumer_assignment_interval_ms=interval_ms,
            consumer_assignors=(assignor,),
            consumer_members_max=8,
            members_max=8,
        )
        self.driver = ConsumerGroupDriver(DrivenTopics(t=3, u=4), settings=options)
        self.clients: list[ConsumerClient | ClassicClient] = []
        self.zombies: list[ConsumerClient | ClassicClient] = []  # they are dead, but what they own is theirs until fenced
        self.made = 0

    # ------------------------------------------------------------------ what happens

    def play(self, what: str, first: int, second: int) -> None:
        driver = self.driver
        client = self.clients[first % len(self.clients)] if self.clients else None
        match what:
            case "new" if len(self.clients) < 6:
                self.made += 1
                names, regex = SUBSCRIPTIONS[first]
                instance = f"i{second % 3}" if second % 3 else None
                made = driver.client(f"m{self.made}", names=names, regex=regex or "", instance_id=instance)
                made.is_slow = second >= 3
                self.clients.append(made)
                self.beat(made)
            case "new classic" if len(self.clients) < 6:
                classic = ClassicClient(driver, ("t",) if first else ("t", "u"))
                self.clients.append(classic)
                self.beat(classic)
            case "beat" if client is not None:
                self.beat(client)
            case "lose request" if isinstance(client, ConsumerClient):
                client.lose()
            case "twice" if isinstance(client, ConsumerClient):
                client.finish()  # see the head of this file
                client.lose()
                knows = self.knows_its_epoch(client)  # only one epoch back is remembered
                assert client.send() == client.send() or not knows, "the same request again gets the same answer"
            case "lose reply" if isinstance(client, ConsumerClient):
                client.finish()
                client.send()
                client.lose()
            case "lose reply" if isinstance(client, ClassicClient):
                client.join_again()
            case "finish" if isinstance(client, ConsumerClient):
                client.finish()
            case "resubscribe" if isinstance(client, ConsumerClient):
                client.names, regex = SUBSCRIPTIONS[second]
                client.regex = regex or ""
                client.is_full = True
            case "leave" if client is not None:
                self.leave(client)
            case "leave for a while" if isinstance(client, ConsumerClient) and client.instance_id:
                if client.epoch:
                    client.leave(-2)
                    self.clients.remove(client)
            case "die" if client is not None:
                self.clients.remove(client)
                self.zombies.append(client)
            case "commit" if client is not None:
                self.commit(client, second)
            case "grow":
                name = "tuv"[first]
                topic = driver.topics.by_name.get(TopicName(name))
                driver.change({name: max(second, topic.partition_count if topic else 1)})
            case "delete":
                name = "tuv"[first]
                if name in driver.topics.by_name:
                    driver.change({name: None})
            case "wait":
                driver.advance(first)
            case "all beat":
                for _ in range(first):
                    for each in list(self.clients):
                        self.beat(each)
            case "reload":
                driver.reload()
                for each in self.clients:  # connections broke: whoever waited asks again
                    if isinstance(each, ClassicClient) and each.state in ("joining", "syncing"):
                        each.join_again()
            case _:
                pass

    def knows_its_epoch(self, client: ConsumerClient) -> bool:
        side = self.driver.machine.side
        member = side.roster.members.get(client.member_id) if isinstance(side, ConsumerSide) else None
        return member is not None and member.standing.epoch == client.epoch

    def beat(self, client: ConsumerClient | ClassicClient) -> None:
        client.beat()
        if isinstance(client, ConsumerClient) and client.is_dead:
            self.clients.remove(client)
        for each in self.clients:
            if isinstance(each, ClassicClient):
                each.hear()

    def leave(self, client: ConsumerClient | ClassicClient) -> None:
        self.clients.remove(client)
        if isinstance(client, ConsumerClient):
            client.leave()
        elif client.member_id:
            self.driver.leave(Leaver(client.member_id))

    def commit(self, client: ConsumerClient | ClassicClient, off: int) -> None:
        epoch = (client.epoch if isinstance(client, ConsumerClient) else client.generation) + off
        if epoch < 0 or not client.member_id:
            return
        answer = self.driver.commit({PartitionId(TopicId(b"p" * 16), 0): 1}, client.member_id, epoch)
        side = self.driver.machine.side
        if isinstance(side, ConsumerSide):
            member = side.roster.members.get(client.member_id)
            known = None if member is None else member.standing.epoch
            assert (answer is None) == (known == epoch), (answer, known, epoch)

    # ------------------------------------------------------------------ what must be true

    def holders(self) -> list[ConsumerClient | ClassicClient]:
        """Those that the coordinator has not given up: a client whose session ran out there has no claim any more."""
        side = self.driver.machine.side
        if isinstance(side, ConsumerSide):
            return [each for each in self.clients + self.zombies if self.is_member(side, each)]
        return []

    @staticmethod
    def is_member(side: ConsumerSide, client: ConsumerClient | ClassicClient) -> bool:
        member = side.roster.members.get(client.member_id)
        return member is not None and member.standing.epoch != -2

    def check(self) -> None:
        driver, side = self.driver, self.driver.machine.side
        owners: dict[tuple[TopicId, int], str] = {}
        for holder in self.holders():
            for partition in holder.partitions():
                other = owners.setdefault(partition, holder.member_id)
                assert other == holder.member_id, f"{partition} is owned by {other} and {holder.member_id}"
        assert driver.deadline_ms == driver.machine.deadline_ms
        if isinstance(side, ConsumerSide):
            self.check_consumer_side(side)

    def check_rows(self) -> None:
        """They give the machine back."""
        driver, side = self.driver, self.driver.machine.side
        loaded = Group.load("g", driver.rows, driver.settings, driver.topics, driver.now)
        assert loaded.group_type == driver.machine.group_type or not driver.machine.side.exists
        if isinstance(side, ConsumerSide):
            assert isinstance(loaded.side, ConsumerSide)
            assert set(loaded.side.roster.members) == set(side.roster.members)
            assert loaded.side.roster.owner == side.roster.owner
            assert loaded.side.target.of_member == side.target.of_member
            assert (loaded.side.group_epoch, loaded.side.target.epoch) == (side.group_epoch, side.target.epoch)
            assert set(side.row_keys()) == {key for key in driver.rows if key.startswith("consumer")}
            for member in side.roster:
                twin = loaded.side.roster.members[member.member_id]
                assert twin.to_row() == member.to_row()
                assert twin.standing._replace(previous_epoch=0) == member.standing._replace(previous_epoch=0)

    def check_consumer_side(self, side: ConsumerSide) -> None:
        assert side.target.epoch <= side.group_epoch
        assert not any(member.standing.epoch > side.target.epoch for member in side.roster)
        assert side.roster.classic_count == sum(member.classic is not None for member in side.roster)
        assert side.roster.static == {m.instance_id: m.member_id for m in side.roster if m.instance_id is not None}
        for member in side.roster:
            assert side.deadlines.next_ms is not None
            assert side.deadlines.next_ms <= member.due_ms()

    def settle(self) -> None:
        """All that are alive beat on; the dead are fenced on the way."""
        for client in self.clients:
            if isinstance(client, ConsumerClient):
                client.is_slow = False
                client.finish()
        for _ in range(80):
            for client in list(self.clients):
                self.beat(client)
            self.driver.advance(1_000)
            self.check()
        side = self.driver.machine.side
        if not isinstance(side, ConsumerSide):
            return
        alive = {client.member_id for client in self.clients}
        assert {member.member_id for member in side.roster} <= alive
        assert side.current_state in (GroupState.STABLE, GroupState.EMPTY), [
            (m.member_id, m.standing, side.target.of(m.member_id)) for m in side.roster
        ]
        of_client = {client.member_id: client for client in self.clients}
        for member in side.roster:
            target = sorted((t, i) for t, indexes in side.target.of(member.member_id).items() for i in indexes)
            assert sorted(of_client[member.member_id].partitions()) == target
        self.check_whole(side)

    def check_whole(self, side: ConsumerSide) -> None:
        """Each partition of a topic that somebody subscribes to is somebody's; equal subscriptions, equal shares."""
        wanted = {
            (topic.topic_id, index)
            for name, topic in self.driver.topics.by_name.items()
            if any(name in side.roster.topics(member) for member in side.roster)
            for index in range(topic.partition_count)
        }
        given = [partition for client in self.clients for partition in client.partitions()]
        assert sorted(given) == sorted(wanted)
        if side.target.assignor == "uniform":
            shares: dict[frozenset[str], list[int]] = {}
            for client in self.clients:
                if (member := side.roster.members.get(client.member_id)) is not None:
                    shares.setdefault(side.roster.topics(member), []).append(len(client.partitions()))
            for share in shares.values():
                assert max(share) - min(share) <= 1, shares


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(
    st.sampled_from([0, 1_000]),
    st.sampled_from(["uniform", "range"]),
    st.lists(action, min_size=10, max_size=60),
)
def test_no_partition_is_ever_owned_by_two(interval_ms: int, assignor: str, actions: list[tuple[str, int, int]]) -> None:
    history = History(interval_ms, assignor)
    for second in (3, 0):
        history.play("new", 0, second)
    for what, first, second in actions:
        history.play(what, first, second)
        history.check()
        history.check_rows()
    history.settle()
    history.check_rows()
