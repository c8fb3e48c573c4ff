"""Offsets of open transactions and of members with epochs: a broker that ends at each effect, lost replies, stale ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId
from riverlog.broker.coordinator import Coordinator
from riverlog.broker.group_requests import ConsumerAsked, MemberAsked, PartitionCommit, TopicAsked, TopicCommit
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.contract import Scope
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.state.access import LIBRARY_CALLER, AllowAll
from riverlog.state.groups.commands import GroupState
from riverlog.state.transactions.commands import Number, Outcome
from riverlog.testing.clock import ManualClock
from riverlog.testing.topic_world import TopicWorld, settled, topic_world

GROUP = Scope("group", "g")
CALLER = LIBRARY_CALLER
NOBODY = MemberAsked()


class World:
    """One process's coordinator over the rows of the one before; what becomes of transactions is what the test says."""

    def __init__(self, topics: TopicWorld, catalog: MemoryCatalog) -> None:
        self.topics = topics
        self.catalog = catalog
        self.clock = ManualClock()
        self.ended: dict[tuple[str, int], bool] = {}  # the decisions, as the transactions' coordinator has them durably
        self.groups = self._coordinator()

    def _coordinator(self) -> Coordinator:
        groups = Coordinator(
            settings=BrokerSettings(offsets_retention_ms=1_000),
            catalog=self.catalog,
            topics=self.topics.topics,
            clock=self.clock,
            entropy=SeededEntropy(1),
            access=AllowAll(),
        )
        groups.outcomes = self.outcome
        return groups

    async def outcome(self, transactional_id: str, number: Number) -> Outcome:
        committed = self.ended.get((transactional_id, number))
        return Outcome.OPEN if committed is None else Outcome.COMMITTED if committed else Outcome.ABORTED

    async def again(self) -> None:
        await self.groups.close()
        self.catalog = self.catalog.reopened()
        self.groups = self._coordinator()
        await self.groups.start()

    async def commit(self, offset: int, member: MemberAsked = NOBODY, partition: int = 0) -> ErrorKind | None:
        asked = [TopicCommit("t", None, [PartitionCommit(partition, offset)])]
        return (await self.groups.commit_offsets(CALLER, "g", member, asked))[0][0]

    async def pend(
        self, offset: int, name: str = "x", number: int = 1, member: MemberAsked = NOBODY, partition: int = 0
    ) -> ErrorKind | None:
        asked = [TopicCommit("t", None, [PartitionCommit(partition, offset, 3, f"at {offset}")])]
        return (await self.groups.commit_pending(CALLER, "g", name, number, member, asked))[0][0]

    async def end(self, committed: bool, name: str = "x", number: int = 1) -> None:
        self.ended[name, number] = committed
        await self.groups.end_pending("g", name, number, committed)

    async def fetch(self, *, stable: bool = False, partition: int = 0, member: MemberAsked | None = None) -> int | ErrorKind:
        asked = [TopicAsked("t", None, [partition])]
        (topic,) = await self.groups.fetch_offsets(CALLER, "g", asked, stable, member)
        (one,) = topic.partitions
        if one.error is not None:
            return one.error
        return -1 if one.committed is None else one.committed.offset


UNSTABLE = ErrorKind.UNSTABLE_OFFSET_COMMIT


def run(story: Callable[[World], Awaitable[None]], late: int = 0) -> None:
    @asynccontextmanager
    async def made() -> AsyncIterator[World]:
        async with topic_world() as topics:
            await topics.made("t", 4)
            world = World(topics, MemoryCatalog(late=late))
            await world.groups.start()
            try:
                yield world
            finally:
                await world.groups.close()

    async def play() -> None:
        async with made() as world:
            await asyncio.wait_for(story(world), 20)

    asyncio.run(play())


async def refused(question: Awaitable[object], kind: ErrorKind) -> None:
    with pytest.raises(RiverlogError) as caught:
        await question
    assert caught.value.kind is kind


@pytest.mark.parametrize("late", [0, 3])
@pytest.mark.parametrize("committed", [True, False])
def test_an_offset_counts_once_its_transaction_is_committed(late: int, committed: bool) -> None:
    async def story(world: World) -> None:
        assert await world.commit(5) is None
        assert await world.pend(9) is None
        assert await world.fetch() == 5
        assert await world.fetch(stable=True) is UNSTABLE
        assert await world.fetch(stable=True, partition=1) == -1
        await world.end(committed)
        assert await world.fetch(stable=True) == (9 if committed else 5)
        await world.end(committed)  # told again, as after a lost reply
        assert await world.fetch(stable=True) == (9 if committed else 5)
        assert len(await world.catalog.load(GROUP)) == 1

    run(story, late)


def test_all_offsets_name_the_unstable_ones() -> None:
    async def story(world: World) -> None:
        await world.commit(5)
        await world.commit(6, partition=1)
        await world.pend(9)
        await world.pend(7, partition=2)
        (topic,) = await world.groups.fetch_offsets(CALLER, "g", None, True)
        found = [(one.partition_index, one.error, one.committed and one.committed.offset) for one in topic.partitions]
        assert found == [(0, UNSTABLE, None), (1, None, 6), (2, UNSTABLE, None)]
        (topic,) = await world.groups.fetch_offsets(CALLER, "g", None, False)
        assert [one.partition_index for one in topic.partitions] == [0, 1]

    run(story)


def test_metadata_and_leader_epoch_are_kept_through_the_transaction() -> None:
    async def story(world: World) -> None:
        await world.pend(9)
        await world.end(True)
        (topic,) = await world.groups.fetch_offsets(CALLER, "g", [TopicAsked("t", None, [0])])
        committed = topic.partitions[0].committed
        assert committed is not None
        assert (committed.offset, committed.leader_epoch, committed.metadata) == (9, 3, "at 9")

    run(story)


class TestABrokerThatEnds:
    @pytest.mark.parametrize("committed", [True, False, None])
    def test_after_the_offset_was_pending(self, committed: bool | None) -> None:
        """Its coordinator decided meanwhile, or has not yet (None)."""

        async def story(world: World) -> None:
            await world.commit(5)
            await world.pend(9)
            if committed is not None:
                world.ended["x", 1] = committed
            await world.again()
            assert await world.fetch(stable=True) == {True: 9, False: 5, None: UNSTABLE}[committed]
            if committed is None:
                await world.end(True)
                assert await world.fetch(stable=True) == 9
            await world.again()
            assert await world.fetch(stable=True) == (5 if committed is False else 9)

        run(story, late=2)

    @pytest.mark.parametrize("lost", ["lost_requests", "lost_replies", "refusals", "conflicts"])
    @pytest.mark.parametrize("effect", ["pend", "end"])
    def test_while_the_catalog_fails_it(self, lost: str, effect: str) -> None:
        """The catalog loses or refuses the commit of one effect; the broker ends; whoever asked asks again."""

        async def story(world: World) -> None:
            await world.commit(5)
            if effect == "end":
                await world.pend(9)
            setattr(world.catalog, lost, 1)
            asked = world.pend(9) if effect == "pend" else world.end(True)
            answered = lost in ("lost_requests", "lost_replies")
            if answered:
                await asked
            else:
                kind = ErrorKind.NOT_COORDINATOR if lost == "conflicts" else ErrorKind.COORDINATOR_NOT_AVAILABLE
                await refused(asked, kind)
            await world.again()
            if effect == "pend":
                assert await world.fetch() == 5
                if not answered:
                    assert await world.fetch(stable=True) == 5  # nothing was kept
                    await world.pend(9)
                assert await world.fetch(stable=True) is UNSTABLE
                await world.end(True)
            assert await world.fetch(stable=True) == 9

        run(story, late=1)

    def test_while_a_commit_is_in_flight(self) -> None:
        """At whatever turn of the loop it ends: what was answered holds, and what was not is whole or not there."""

        async def story(world: World) -> None:
            await world.commit(5)
            for turns in range(12):
                number = turns + 1
                world.catalog.late = 4
                pending = asyncio.ensure_future(world.pend(100 + turns, number=number))
                for _ in range(turns):
                    await settled_turn()
                await world.groups.close()
                (outcome,) = await asyncio.gather(pending, return_exceptions=True)
                world.ended["x", number] = True
                await world.again()
                world.catalog.late = 0
                found = await world.fetch(stable=True)
                assert found == 100 + turns if outcome is None else found in (5, *range(100, 101 + turns))

        run(story)


async def settled_turn() -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn


def test_a_coordinator_of_transactions_that_cannot_answer_leaves_them_undecided_until_it_can() -> None:
    async def story(world: World) -> None:
        await world.pend(9)

        async def unknown(transactional_id: str, number: Number) -> Outcome:
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, "not now")

        await world.groups.close()
        world.catalog = world.catalog.reopened()
        world.groups = world._coordinator()
        world.groups.outcomes = unknown
        await world.groups.start()
        assert await world.fetch(stable=True) is UNSTABLE
        world.ended["x", 1] = True
        world.groups.outcomes = world.outcome
        world.clock.advance(BrokerSettings().offsets_retention_check_interval_ms)  # nobody told it: it asks again
        runner = world.groups._machines.runners["g"]
        await settled(lambda: not runner.machine.offsets.undecided())

    run(story)


def test_an_offset_that_its_own_transactions_end_overtook_is_refused() -> None:
    async def story(world: World) -> None:
        world.catalog.late = 3  # the group has to be loaded first
        asked = [TopicCommit("t", None, [PartitionCommit(0, 9)])]
        is_open = True
        late = asyncio.ensure_future(
            world.groups.commit_pending(CALLER, "g", "x", 1, NOBODY, asked, lambda: is_open)
        )
        await settled_turn()
        is_open = False
        await refused(late, ErrorKind.INVALID_TXN_STATE)
        assert await world.fetch(stable=True) == -1
        assert await world.catalog.load(GROUP) == {}

    run(story)


def test_each_partition_has_its_own_error() -> None:
    async def story(world: World) -> None:
        asked = [
            TopicCommit("t", None, [PartitionCommit(0, 1), PartitionCommit(99, 1), PartitionCommit(1, 1, -1, "m" * 5_000)]),
            TopicCommit("nowhere", None, [PartitionCommit(0, 1)]),
        ]
        errors = await world.groups.commit_pending(CALLER, "g", "x", 1, NOBODY, asked)
        unknown, large = ErrorKind.UNKNOWN_TOPIC, ErrorKind.OFFSET_METADATA_TOO_LARGE
        assert errors == [[None, unknown, large], [unknown]]
        await refused(world.groups.commit_pending(CALLER, "", "x", 1, NOBODY, asked), ErrorKind.INVALID_GROUP_ID)

    run(story)


def test_deleting_takes_pending_offsets_along() -> None:
    async def story(world: World) -> None:
        await world.pend(9)
        assert await world.groups.delete_group(CALLER, "g") is None
        await world.end(True)
        assert await world.fetch(stable=True) == -1
        await world.pend(9, number=2)
        topic_id = world.topics.topics.by_name["t"].topic_id  # type: ignore[index]
        world.groups.topics_deleted([topic_id])
        await world.end(True, number=2)
        assert await world.fetch(stable=True) == -1
        await world.commit(5)
        await world.pend(9, number=3)
        assert await world.groups.delete_offsets(CALLER, "g", [TopicAsked("t", None, [0])]) == [[None]]
        assert await world.fetch(stable=True) == -1

    run(story)


def test_a_pending_offset_keeps_its_group_and_its_partition_from_expiry() -> None:
    async def story(world: World) -> None:
        await world.commit(5)
        await world.commit(6, partition=1)
        await world.pend(9)
        world.clock.advance(BrokerSettings().offsets_retention_check_interval_ms)
        runner = world.groups._machines.runners["g"]
        await settled(lambda: len(runner.machine.offsets) == 2)  # partition 1 went; 0 and what is pending of it stay
        assert await world.fetch() == 5
        await world.end(True)
        assert await world.fetch(stable=True) == 9

    run(story)


class TestMembersWithEpochs:
    async def joined(self, world: World, member_id: str = "m") -> MemberAsked:
        asked = ConsumerAsked(member_id, 0, rebalance_timeout_ms=10_000, subscribed_names=("t",), owned={})
        beat = await world.groups.consumer_heartbeat(CALLER, "g", asked)
        assert beat.error is None, beat
        return MemberAsked(beat.member_epoch, beat.member_id)

    def test_a_stale_epoch_is_told_so(self) -> None:
        """A zombie after a pause: the epoch went on without it, or the group forgot it."""

        async def story(world: World) -> None:
            member = await self.joined(world)
            assert await world.commit(5, member) is None
            assert await world.fetch(member=member) == 5
            stale = member._replace(generation=member.generation - 1)
            assert await world.commit(4, stale) is ErrorKind.STALE_MEMBER_EPOCH
            await refused(world.fetch(member=stale), ErrorKind.STALE_MEMBER_EPOCH)
            stranger = member._replace(member_id="other")
            assert await world.commit(4, stranger) is ErrorKind.UNKNOWN_MEMBER_ID
            await refused(world.fetch(member=stranger), ErrorKind.UNKNOWN_MEMBER_ID)
            assert await world.commit(4) is ErrorKind.UNKNOWN_MEMBER_ID  # nobody of the group, and somebody is there
            assert await world.fetch() == 5
            world.clock.advance(60_000)  # the session is over
            runner = world.groups._machines.runners["g"]
            await settled(lambda: runner.machine.state is GroupState.EMPTY)
            assert await world.commit(4, member) is ErrorKind.UNKNOWN_MEMBER_ID
            assert await world.fetch() == 5

        run(story)

    def test_a_client_that_knows_no_epochs_is_told_to_be_newer(self) -> None:
        async def story(world: World) -> None:
            member = await self.joined(world)
            asked = [TopicCommit("t", None, [PartitionCommit(0, 5)])]
            errors = await world.groups.commit_offsets(CALLER, "g", member, asked, epochs_known=False)
            assert errors == [[ErrorKind.UNSUPPORTED_VERSION]]

        run(story)

    def test_a_pending_offset_of_a_stale_member_is_refused(self) -> None:
        async def story(world: World) -> None:
            member = await self.joined(world)
            assert await world.pend(9, member=member) is None
            stale = member._replace(generation=member.generation - 1)
            assert await world.pend(8, member=stale, number=2) is not None
            await world.end(True)
            assert await world.fetch(stable=True) == 9

        run(story)

    def test_a_group_goes_on_after_a_restart(self) -> None:
        async def story(world: World) -> None:
            member = await self.joined(world)
            await world.commit(5, member)
            await world.again()
            beat = await world.groups.consumer_heartbeat(CALLER, "g", ConsumerAsked(member.member_id, member.generation))
            assert (beat.error, beat.member_epoch) == (None, member.generation)
            assert await world.fetch(member=member) == 5
            described = await world.groups.describe_consumer(CALLER, "g")
            assert [one.member_id for one in described.members] == [member.member_id]
            (listed,) = await world.groups.list_groups(CALLER, types=["consumer"])
            assert (listed.group_id, listed.group_type) == ("g", "consumer")
            assert await world.groups.list_groups(CALLER, types=["classic"]) == []

        run(story)

    def test_more_partitions_reach_the_member(self) -> None:
        async def story(world: World) -> None:
            member = await self.joined(world)
            await world.topics.topics.add_partitions(CALLER, "t", 6)
            owned, epoch = None, member.generation
            for _ in range(3):  # the assignment interval passes, and the member is told
                world.clock.advance(1_000)
                for _ in range(20):
                    await settled_turn()
                beat = await world.groups.consumer_heartbeat(
                    CALLER, "g", ConsumerAsked(member.member_id, epoch, owned=owned)
                )
                assert beat.error is None
                owned, epoch = beat.assignment, beat.member_epoch
            assert epoch > member.generation
            described = await world.groups.describe_consumer(CALLER, "g")
            (one,) = described.members
            assert [sorted(indexes) for indexes in one.target.values()] == [[0, 1, 2, 3, 4, 5]]

        run(story)


def test_offsets_beyond_a_lost_tail_are_cut_pending_ones_too() -> None:
    async def story(world: World) -> None:
        topic_id: TopicId = world.topics.topics.by_name["t"].topic_id  # type: ignore[index]
        await world.commit(50)
        await world.pend(60)
        assert await world.groups.cut_offsets_beyond(PartitionId(topic_id, 0), 40) == 1
        assert await world.fetch() == 40
        await world.end(True)
        assert await world.fetch() == 40

    run(story)
