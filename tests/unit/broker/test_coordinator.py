"""The coordinator over the in-memory catalog: waiting, time, restarts, and a catalog that refuses and loses replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.group_requests import (
    FetchedOffset,
    JoinAsked,
    MemberAsked,
    PartitionCommit,
    TopicAsked,
    TopicCommit,
)
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.contract import Scope
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.state.access import Access, AllowAll, Caller, DenyAll, Operation, Resource, ResourceKind
from riverlog.state.groups.classic import ClassicSide
from riverlog.state.groups.commands import GroupState, JoinResult, Leaver
from riverlog.testing.clock import ManualClock
from riverlog.testing.group_driver import RANGE, subscription

T = TypeVar("T")
CALLER = Caller("User:ANONYMOUS", "cli", "kafka", "127.0.0.1:50000")
JOIN = JoinAsked("", None, 10_000, 60_000, "consumer", RANGE)
GROUP = Scope("group", "g")
NOBODY = MemberAsked()
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Topic:
    name: TopicName
    topic_id: TopicId
    partition_count: int = 4


@dataclass
class Topics:
    by_name: dict[TopicName, Topic] = field(default_factory=dict)
    by_id: dict[TopicId, Topic] = field(default_factory=dict)
    watchers: list[Callable[[Topic | None, Topic | None], None]] = field(default_factory=list)

    def add(self, name: str, topic_id: bytes) -> Topic:
        topic = Topic(TopicName(name), TopicId(topic_id))
        self.by_name[topic.name] = self.by_id[topic.topic_id] = topic
        return topic

    def watch(self, changed: Callable[[Topic | None, Topic | None], None]) -> None:
        self.watchers.append(changed)

    def replace(self, name: str, topic_id: bytes) -> None:
        old = self.by_name.pop(TopicName(name))
        del self.by_id[old.topic_id]
        for changed in self.watchers:
            changed(old, None)
        self.add(name, topic_id)


class World:
    """One process's coordinator; `again()` is the next one's over the same rows."""

    def __init__(self, catalog: MemoryCatalog, settings: BrokerSettings | None = None) -> None:
        self.catalog = catalog
        self.clock = ManualClock()
        self.topics = Topics()
        self.topics.add("t", b"t" * 16)
        self.topics.add("u", b"u" * 16)
        self.settings = settings or BrokerSettings()
        self.groups = self.coordinator(AllowAll())

    def coordinator(self, access: Access) -> Coordinator:
        return Coordinator(
            settings=self.settings,
            catalog=self.catalog,
            topics=self.topics,
            clock=self.clock,
            entropy=SeededEntropy(1),
            access=access,
        )

    async def again(self) -> None:
        await self.groups.close()
        self.catalog = self.catalog.reopened()
        self.groups = self.coordinator(AllowAll())
        await self.groups.start()
        await self.settle()

    async def settle(self) -> None:
        """Lets everything that can go on go on."""
        for _ in range(50):
            await _turn()

    async def pass_ms(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)
        await self.settle()

    def ask(self, question: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(question)

    async def join(self, asked: JoinAsked = JOIN) -> JoinResult:
        """Joins; twice where an id is given first."""
        result = await self.groups.join(CALLER, "g", asked)
        if result.error is ErrorKind.MEMBER_ID_REQUIRED:
            result = await self.groups.join(CALLER, "g", asked._replace(member_id=result.member_id))
        return result

    async def stable(self) -> MemberAsked:
        """A stable group of one."""
        joined = await self.join()
        member = MemberAsked(joined.generation, joined.member_id)
        synced = await self.groups.sync(CALLER, "g", member, {joined.member_id: b"part"})
        assert synced.assignment == b"part"
        return member

    async def commit(self, offset: int, member: MemberAsked = NOBODY, group: str = "g") -> ErrorKind | None:
        commit = [TopicCommit("t", None, [PartitionCommit(0, offset)])]
        return (await self.groups.commit_offsets(CALLER, group, member, commit))[0][0]

    async def fetch(self, group: str = "g") -> int:
        (topic,) = await self.groups.fetch_offsets(CALLER, group, [TopicAsked("t", None, [0])])
        committed = topic.partitions[0].committed
        return -1 if committed is None else committed.offset


async def _turn() -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn


@asynccontextmanager
async def world(late: int = 0, settings: BrokerSettings | None = None) -> AsyncIterator[World]:
    one = World(MemoryCatalog(late=late), settings)
    await one.groups.start()
    try:
        yield one
    finally:
        await one.groups.close()


def run(story: Callable[[World], Awaitable[None]], late: int = 0, settings: BrokerSettings | None = None) -> None:
    async def play() -> None:
        async with world(late, settings) as one:
            await story(one)

    asyncio.run(play())


async def refused(question: Awaitable[object], kind: ErrorKind) -> None:
    with pytest.raises(RiverlogError) as caught:
        await question
    assert caught.value.kind is kind
    assert caught.value.message


@pytest.mark.parametrize("late", [0, 3])
def test_join_sync_heartbeat_commit_fetch_leave(late: int) -> None:
    async def story(one: World) -> None:
        member = await one.stable()
        assert member.member_id.startswith("cli-")
        assert await one.groups.heartbeat(CALLER, "g", member) is None
        assert await one.commit(5, member) is None
        assert await one.fetch() == 5
        (listed,) = await one.groups.list_groups(CALLER)
        assert (listed.group_id, listed.state, listed.protocol_type) == ("g", GroupState.STABLE, "consumer")
        (described,) = (await one.groups.describe(CALLER, "g")).members
        assert (described.client_id, described.client_host) == ("cli", "/127.0.0.1")
        assert list(one.groups.committed()) == [("g", b"t" * 16, 0, 5)]
        assert list(one.groups.members()) == [("g", GroupState.STABLE, 1)]
        assert (await one.groups.leave(CALLER, "g", [Leaver(member.member_id)])).errors == [None]
        assert (await one.groups.describe(CALLER, "g")).state is GroupState.EMPTY

    run(story, late)


def test_member_ids_end_in_a_uuid() -> None:
    async def story(one: World) -> None:
        member_id = (await one.groups.join(CALLER, "g", JOIN)).member_id
        head, *rest = member_id.split("-")
        assert head == "cli"
        assert [len(part) for part in rest] == [8, 4, 4, 4, 12]
        assert rest[2][0] == "4"
        assert rest[3][0] in "89ab"

    run(story)


@pytest.mark.parametrize("late", [0, 3])
def test_two_members_rebalance(late: int) -> None:
    async def story(one: World) -> None:
        member = await one.stable()
        second = one.ask(one.join())
        await one.settle()
        assert not second.done()
        assert await one.groups.heartbeat(CALLER, "g", member) is ErrorKind.REBALANCE_IN_PROGRESS
        first = await one.join(JOIN._replace(member_id=member.member_id))
        other = await second
        assert first.generation == other.generation == 2
        waiting = one.ask(one.groups.sync(CALLER, "g", MemberAsked(2, other.member_id), {}))
        await one.settle()
        assert not waiting.done()
        await one.groups.sync(CALLER, "g", MemberAsked(2, first.member_id), {other.member_id: b"all"})
        assert (await waiting).assignment == b"all"

    run(story, late)


def test_a_session_that_ends_removes_the_member_without_anybody_asking() -> None:
    async def story(one: World) -> None:
        await one.stable()
        await one.pass_ms(9_999)
        assert list(one.groups.members()) == [("g", GroupState.STABLE, 1)]
        await one.pass_ms(1)
        assert list(one.groups.members()) == [("g", GroupState.EMPTY, 0)]

    run(story)


def test_a_rebalance_time_out_answers_who_waits() -> None:
    async def story(one: World) -> None:
        member = await one.stable()
        second = one.ask(one.join())
        for _ in range(12):
            await one.settle()
            assert not second.done()
            await one.groups.heartbeat(CALLER, "g", member)
            await one.pass_ms(5_000)
        assert (await second).generation == 2

    run(story)


def test_the_timer_serves_the_earliest_of_many_groups() -> None:
    async def story(one: World) -> None:
        for session_timeout_ms in (9_000, 6_000, 12_000):
            # An id that is given out and not used is all there is of these groups.
            await one.groups.join(CALLER, str(session_timeout_ms), JOIN._replace(session_timeout_ms=session_timeout_ms))
        for wait_ms, left in ((5_999, 3), (1, 2), (2_999, 2), (1, 1), (2_999, 1), (1, 0)):
            await one.pass_ms(wait_ms)
            assert len(list(one.groups.members())) == left

    run(story)


class TestRestart:
    def test_a_stable_group_goes_on(self) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            await one.commit(5, member)
            await one.again()
            assert await one.groups.heartbeat(CALLER, "g", member) is None
            assert await one.commit(6, member) is None
            assert await one.fetch() == 6
            assert (await one.groups.sync(CALLER, "g", member, {})).assignment == b"part"

        run(story)

    def test_sessions_count_without_anybody_asking(self) -> None:
        async def story(one: World) -> None:
            await one.stable()
            await one.again()
            assert list(one.groups.members()) == [("g", GroupState.STABLE, 1)]
            await one.pass_ms(10_000)
            assert list(one.groups.members()) == [("g", GroupState.EMPTY, 0)]

        run(story)

    def test_who_waits_when_the_broker_stops_is_told_to_ask_again(self) -> None:
        async def story(one: World) -> None:
            await one.stable()
            second = one.ask(one.join())
            await one.settle()
            await one.groups.close()
            await refused(second, ErrorKind.COORDINATOR_NOT_AVAILABLE)
            await refused(one.fetch("other"), ErrorKind.COORDINATOR_NOT_AVAILABLE)

        run(story)


    def test_who_waits_for_a_load_when_the_broker_stops_is_told_to_ask_again(self) -> None:
        async def story(one: World) -> None:
            one.catalog.late = 20
            fetch = one.ask(one.fetch())
            await _turn()
            await _turn()
            assert one.groups._machines._loading
            await one.groups.close()
            await refused(fetch, ErrorKind.COORDINATOR_NOT_AVAILABLE)

        run(story)

    def test_a_stopping_broker_takes_no_more_commits(self) -> None:
        async def story(one: World) -> None:
            await one.commit(1)
            one.catalog.late = 20
            commit = one.ask(one.commit(2))
            await _turn()
            closing = one.ask(one.groups.close())
            await _turn()
            await refused(one.commit(3), ErrorKind.COORDINATOR_NOT_AVAILABLE)
            assert await commit is None  # it was under way, and is finished
            await closing

        run(story)


class TestCatalogFaults:
    def test_no_answer_before_the_commit_is_durable(self) -> None:
        async def story(one: World) -> None:
            one.catalog.late = 20
            commit = one.ask(one.commit(5))
            for _ in range(65):  # own and load take 20 turns each
                await _turn()
            fetch = one.ask(one.fetch())
            while not commit.done():
                assert not fetch.done()
                await _turn()
            assert await fetch == 5
            assert one.catalog._scopes[GROUP]

        run(story)

    def test_what_is_asked_while_a_commit_runs_goes_into_the_next(self) -> None:
        async def story(one: World) -> None:
            await one.commit(0)
            one.catalog.late = 10
            before = len(one.catalog.commits)
            answers = await asyncio.gather(*(one.commit(offset) for offset in range(1, 101)))
            assert set(answers) == {None}
            assert len(one.catalog.commits) - before <= 2
            assert await one.fetch() == 100

        run(story)

    @pytest.mark.parametrize("fault", ["lost_requests", "lost_replies"])
    def test_a_lost_reply_is_asked_again_under_the_same_id(self, fault: str) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            setattr(one.catalog, fault, 1)
            assert await one.commit(5, member) is None
            assert await one.fetch() == 5
            assert await one.groups.heartbeat(CALLER, "g", member) is None

        run(story)

    def test_a_commit_that_stays_in_doubt_answers_after_a_while_and_is_asked_on(self) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            one.catalog.lost_requests = 1_000
            commit = one.ask(one.commit(5, member))
            fetch = one.ask(one.fetch())
            for _ in range(10):
                await one.pass_ms(1_000)
            await refused(commit, ErrorKind.COORDINATOR_NOT_AVAILABLE)
            await refused(fetch, ErrorKind.COORDINATOR_NOT_AVAILABLE)
            await refused(one.fetch(), ErrorKind.COORDINATOR_NOT_AVAILABLE)
            one.catalog.lost_requests = 0
            await one.pass_ms(1_000)
            assert await one.fetch() == 5
            assert await one.groups.heartbeat(CALLER, "g", member) is None

        run(story)

    def test_a_stop_does_not_wait_for_a_commit_in_doubt(self) -> None:
        async def story(one: World) -> None:
            one.catalog.lost_requests = 1_000
            commit = one.ask(one.commit(5))
            await one.settle()
            await one.groups.close()
            await refused(commit, ErrorKind.COORDINATOR_NOT_AVAILABLE)

        run(story)

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [("refusals", ErrorKind.COORDINATOR_NOT_AVAILABLE), ("conflicts", ErrorKind.NOT_COORDINATOR)],
    )
    def test_a_refused_commit_drops_the_machine_and_all_who_wait(self, fault: str, kind: ErrorKind) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            await one.commit(5, member)
            second = one.ask(one.join())
            await one.settle()
            setattr(one.catalog, fault, 1)
            commit = one.ask(one.commit(9, member))
            fetch = one.ask(one.fetch())
            await refused(commit, kind)
            await refused(fetch, kind)
            await refused(second, kind)
            assert await one.fetch() == 5  # as it is in the rows
            assert await one.groups.heartbeat(CALLER, "g", member) is None

        run(story, late=1)

    def test_a_lost_lease_drops_the_machine(self) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            one.catalog.steal(GROUP)
            await refused(one.commit(5, member), ErrorKind.NOT_COORDINATOR)
            assert await one.commit(6, member) is None

        run(story)

    def test_a_group_that_somebody_else_owns(self) -> None:
        async def story(one: World) -> None:
            one.catalog.taken_by[GROUP] = "elsewhere:9092"
            await refused(one.join(), ErrorKind.NOT_COORDINATOR)
            assert await one.groups.list_groups(CALLER) == []

        run(story)

    def test_rows_that_are_damaged_concern_their_group_only(self) -> None:
        async def story(one: World) -> None:
            await one.commit(5)
            await one.commit(6, group="h")
            rows = one.catalog._scopes[GROUP]
            for key, row in rows.items():
                rows[key] = row._replace(value=b"\x00")
            await one.again()
            await refused(one.fetch(), ErrorKind.COORDINATOR_NOT_AVAILABLE)
            assert await one.fetch("h") == 6
            assert [listed.group_id for listed in await one.groups.list_groups(CALLER)] == ["h"]

        run(story)

    def test_a_machine_that_fails_is_loaded_again(self) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            side = one.groups._machines.runners["g"].machine.side
            assert isinstance(side, ClassicSide)
            side.membership.members.clear()  # nonsense
            side.membership.static["i"] = member.member_id
            side.membership.members[member.member_id] = None  # type: ignore[assignment]
            await refused(one.groups.heartbeat(CALLER, "g", member), ErrorKind.COORDINATOR_NOT_AVAILABLE)
            assert await one.groups.heartbeat(CALLER, "g", member) is None

        run(story)

    def test_a_client_that_went_away_leaves_the_others_unharmed(self) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            gone = one.ask(one.join())
            await one.settle()
            gone.cancel()
            await one.settle()
            joined = await one.join(JOIN._replace(member_id=member.member_id))
            assert joined.generation == 2
            assert len(joined.members) == 2

        run(story)


class TestOffsets:
    def test_each_partition_has_its_own_error(self) -> None:
        async def story(one: World) -> None:
            asked = [
                TopicCommit("t", None, [PartitionCommit(0, 1), PartitionCommit(4, 1), PartitionCommit(-1, 1)]),
                TopicCommit("t", None, [PartitionCommit(1, 1, -1, "é" * 4096), PartitionCommit(2, 1, -1, "m" * 4097)]),
                TopicCommit("nothing", None, [PartitionCommit(0, 1)]),
                TopicCommit("", TopicId(b"u" * 16), [PartitionCommit(0, 7)]),
                TopicCommit("", TopicId(b"?" * 16), [PartitionCommit(0, 7)]),
            ]
            assert await one.groups.commit_offsets(CALLER, "g", MemberAsked(), asked) == [
                [None, ErrorKind.UNKNOWN_TOPIC, ErrorKind.UNKNOWN_TOPIC],
                [None, ErrorKind.OFFSET_METADATA_TOO_LARGE],
                [ErrorKind.UNKNOWN_TOPIC],
                [None],
                [ErrorKind.UNKNOWN_TOPIC_ID],
            ]
            assert sorted(one.groups.committed()) == [
                ("g", b"t" * 16, 0, 1),
                ("g", b"t" * 16, 1, 1),
                ("g", b"u" * 16, 0, 7),
            ]

        run(story)

    def test_a_group_that_refuses_refuses_what_was_fine_else(self) -> None:
        async def story(one: World) -> None:
            await one.stable()
            asked = [TopicCommit("t", None, [PartitionCommit(0, 1), PartitionCommit(9, 1)])]
            assert await one.groups.commit_offsets(CALLER, "g", MemberAsked(), asked) == [
                [ErrorKind.UNKNOWN_MEMBER_ID, ErrorKind.UNKNOWN_TOPIC]
            ]

        run(story)

    def test_an_unknown_group_has_no_offsets_and_leaves_no_trace(self) -> None:
        async def story(one: World) -> None:
            assert await one.fetch("nobody") == -1
            assert await one.groups.fetch_offsets(CALLER, "nobody", None) == []
            await one.settle()
            assert not one.groups._machines.runners
            assert (await one.groups.describe(CALLER, "nobody")).state is GroupState.DEAD
            assert await one.groups.delete_group(CALLER, "nobody") is ErrorKind.GROUP_ID_NOT_FOUND

        run(story, late=2)

    def test_many_ask_at_once_for_a_group_that_is_not_there(self) -> None:
        async def story(one: World) -> None:
            assert await asyncio.gather(*(one.fetch("nobody") for _ in range(20))) == [-1] * 20
            await one.settle()
            assert not one.groups._machines.runners

        run(story, late=2)

    def test_fetch_by_name_by_id_and_of_all(self) -> None:
        async def story(one: World) -> None:
            await one.commit(5)
            topic_id = TopicId(b"t" * 16)
            asked = [TopicAsked("", topic_id, [0, 1]), TopicAsked("", TopicId(b"?" * 16), [3])]
            found, unknown = await one.groups.fetch_offsets(CALLER, "g", asked)
            assert [one.committed is not None for one in found.partitions] == [True, False]
            assert unknown.partitions == [FetchedOffset(3, None, ErrorKind.UNKNOWN_TOPIC_ID)]
            (nothing,) = await one.groups.fetch_offsets(CALLER, "g", [TopicAsked("nothing", None, [0])])
            assert nothing.partitions == [FetchedOffset(0, None)]
            (everything,) = await one.groups.fetch_offsets(CALLER, "g", None)
            assert (everything.name, everything.topic_id) == ("t", topic_id)

        run(story)

    def test_a_topic_made_again_shows_no_offsets(self) -> None:
        async def story(one: World) -> None:
            await one.commit(5)
            one.topics.replace("t", b"T" * 16)
            assert await one.fetch() == -1
            await one.again()
            assert list(one.groups.committed()) == []

        run(story)

    def test_offsets_beyond_the_log_are_cut_back(self) -> None:
        async def story(one: World) -> None:
            await one.commit(9)
            await one.commit(3, group="h")
            await one.again()
            assert await one.groups.cut_offsets_beyond(PartitionId(TopicId(b"t" * 16), 0), 5) == 1
            assert (await one.fetch(), await one.fetch("h")) == (5, 3)

        run(story)

    def test_offsets_expire_by_themselves(self) -> None:
        async def story(one: World) -> None:
            await one.commit(9)
            await one.pass_ms(7 * DAY_MS - 600_000)
            assert await one.fetch() == 9
            await one.pass_ms(600_000)
            assert await one.fetch() == -1
            assert not one.catalog._scopes[GROUP]

        run(story)

    def test_delete_offsets(self) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            both = [TopicCommit(name, None, [PartitionCommit(0, 1)]) for name in "tu"]
            await one.groups.commit_offsets(CALLER, "g", member, both)
            asked = [TopicAsked("t", None, [0]), TopicAsked("u", None, [0, 9]), TopicAsked("nothing", None, [0])]
            assert await one.groups.delete_offsets(CALLER, "g", asked) == [
                [ErrorKind.GROUP_SUBSCRIBED_TO_TOPIC],
                [None, ErrorKind.UNKNOWN_TOPIC],
                [ErrorKind.UNKNOWN_TOPIC],
            ]
            assert [offset[1] for offset in one.groups.committed()] == [b"t" * 16]
            await refused(one.groups.delete_offsets(CALLER, "nobody", asked), ErrorKind.GROUP_ID_NOT_FOUND)

        run(story)


class TestListing:
    def test_filters(self) -> None:
        async def story(one: World) -> None:
            await one.stable()
            await one.commit(1, group="h")

            async def names(states: Sequence[str] = (), types: Sequence[str] = ()) -> str:
                return "".join(one.group_id for one in await groups.list_groups(CALLER, states, types))

            groups = one.groups
            assert await names() == "gh"
            assert await names(["stable"]) == "g"
            assert await names(["Empty", "Dead"]) == "h"
            assert await names(types=["Classic"]) == "gh"
            assert await names(types=["consumer"]) == ""

        run(story)

    def test_groups_of_an_earlier_process_are_listed(self) -> None:
        async def story(one: World) -> None:
            await one.commit(1, group="h")
            await one.groups.close()
            one.groups = one.coordinator(AllowAll())  # not started: nothing is loaded
            assert [listed.group_id for listed in await one.groups.list_groups(CALLER)] == ["h"]

        run(story)


class TestAccess:
    def test_who_may_do_nothing(self) -> None:
        async def story(one: World) -> None:
            member = await one.stable()
            await one.commit(5, member)
            denied = one.coordinator(DenyAll())
            for question in (
                denied.join(CALLER, "g", JOIN),
                denied.sync(CALLER, "g", member, {}),
                denied.heartbeat(CALLER, "g", member),
                denied.leave(CALLER, "g", [Leaver(member.member_id)]),
                denied.commit_offsets(CALLER, "g", member, []),
                denied.fetch_offsets(CALLER, "g", None),
                denied.delete_offsets(CALLER, "g", []),
                denied.delete_group(CALLER, "g"),
                denied.describe(CALLER, "g"),
            ):
                await refused(question, ErrorKind.UNAUTHORIZED)
            assert await denied.list_groups(CALLER) == []
            assert denied.find(CALLER, ResourceKind.GROUP, "g") is ErrorKind.UNAUTHORIZED
            await denied.close()

        run(story)

    def test_who_may_use_the_group_but_not_the_topic(self) -> None:
        class NoTopics:
            def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
                return resource.kind is not ResourceKind.TOPIC

        async def story(one: World) -> None:
            await one.commit(5)
            limited = one.coordinator(NoTopics())
            commit = [TopicCommit("t", None, [PartitionCommit(0, 9)]), TopicCommit("?", None, [PartitionCommit(0, 9)])]
            refusal = ErrorKind.UNAUTHORIZED
            answer = await limited.commit_offsets(CALLER, "g", MemberAsked(), commit)
            assert answer == [[refusal], [refusal]]
            (topic,) = await limited.fetch_offsets(CALLER, "g", [TopicAsked("t", None, [0])])
            assert topic.partitions == [FetchedOffset(0, None, refusal)]
            assert await limited.fetch_offsets(CALLER, "g", None) == []
            assert await limited.delete_offsets(CALLER, "g", [TopicAsked("t", None, [0])]) == [[refusal]]
            await limited.close()

        run(story)


def test_a_group_with_members_needs_a_name() -> None:
    async def story(one: World) -> None:
        await refused(one.groups.join(CALLER, "", JOIN), ErrorKind.INVALID_GROUP_ID)
        await refused(one.groups.heartbeat(CALLER, "", MemberAsked()), ErrorKind.INVALID_GROUP_ID)
        assert await one.commit(1, group="") is None
        assert await one.fetch("") == 1

    run(story)


def test_settings_reach_the_machine() -> None:
    async def story(one: World) -> None:
        first = one.ask(one.join())
        await one.settle()
        assert not first.done()
        await one.pass_ms(3_000)
        assert (await first).generation == 1
        long = JOIN._replace(session_timeout_ms=10_001)
        assert (await one.join(long)).error is ErrorKind.INVALID_SESSION_TIMEOUT

    run(
        story,
        settings=BrokerSettings(group_initial_rebalance_delay_ms=3_000, group_session_timeout_ms_max=10_000),
    )


def test_subscription_is_what_consumers_send() -> None:
    assert subscription("t") == b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff"
