"""Transactions over the in-memory catalog and engine: what may be asked, restarts at each effect, a catalog that refuses,
conflicts and loses replies, time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.units import MINUTE_MS
from riverlog.broker.group_requests import MemberAsked
from riverlog.broker.settings import BrokerSettings
from riverlog.broker.transaction_requests import GroupRefused
from riverlog.broker.transaction_session import Records, TransactionSession
from riverlog.catalog.contract import Change, CommitId, Scope
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER, AllowAll, Caller, Operation, Resource, ResourceKind
from riverlog.state.transactions.commands import Number, Outcome, Producer, TransactionState, Version
from riverlog.state.transactions.rows import STATE_KEY, decode_state, encode_state
from riverlog.state.transactions.rules import EPOCH_LAST
from tests.transaction_world import OFFSETS, TOPIC, World, play, turns

SCOPE = Scope("transaction", "tx")
V2 = Version.EPOCH_BUMPED


async def session(world: World, transactional_id: str = "tx", timeout_ms: int = MINUTE_MS) -> TransactionSession:
    return await world.broker.transactions.session(LIBRARY_CALLER, transactional_id, timeout_ms)


def record(value: bytes, partition: int = 0) -> Records:
    return Records(TOPIC, partition, [NewRecord(1, None, value)])


async def kind_of(asked: Awaitable[object]) -> ErrorKind | None:
    try:
        await asked
    except RiverlogError as error:
        return error.kind
    return None


# ---------------------------------------------------------------------- asking


def test_one_partition_that_may_not_be_added_keeps_the_others_out() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        asked = [(TOPIC, 0), (TOPIC, 9), ("nothing", 0), (TOPIC, 1)]
        errors = await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, asked, Version.PLAIN)
        left, unknown = ErrorKind.OPERATION_NOT_ATTEMPTED, ErrorKind.UNKNOWN_TOPIC
        assert errors == [left, unknown, unknown, left]
        assert await world.state() is TransactionState.EMPTY
        assert not transactions.admits("tx", producer, world.partition())

    play(story)


def test_a_partition_is_admitted_when_its_row_is_durable_and_until_an_end_is_asked_for() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        stranger = Producer(producer.producer_id, producer.epoch - 1)
        before = len(world.catalog.commits)
        adding = asyncio.ensure_future(
            transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 0)], Version.PLAIN)
        )
        while not transactions.admits("tx", producer, world.partition()):
            assert not adding.done()
            await turns(1)
        assert len(world.catalog.commits) == before + 1
        await adding
        assert not transactions.admits("tx", stranger, world.partition())
        assert not transactions.admits("tx", producer, world.partition(1))
        assert not transactions.admits("other", producer, world.partition())
        ending = asyncio.ensure_future(transactions.end(LIBRARY_CALLER, "tx", producer, True, Version.PLAIN))
        while transactions.admits("tx", producer, world.partition()):
            assert not ending.done()
            await turns(1)
        await ending
        await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 1)], Version.PLAIN)
        assert not transactions.admits("tx", producer, world.partition())  # it was in the one before

    play(story)


def test_what_is_added_is_admitted_no_sooner_because_another_partition_or_transaction_was() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)

        def is_there(index: int) -> bool:
            return transactions.admits("tx", producer, world.partition(index))

        for index in (0, 1, 0):  # the last one in the next transaction, which has the epoch of the one before
            if is_there(1):
                await transactions.end(LIBRARY_CALLER, "tx", producer, True, Version.PLAIN)
                await world.until(lambda: _is(world.state(), TransactionState.COMPLETE_COMMIT))
            before = len(world.catalog.commits)
            adding = asyncio.ensure_future(
                transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, index)], Version.PLAIN)
            )
            while not is_there(index):
                assert not adding.done()
                await turns(1)
            assert len(world.catalog.commits) == before + 1
            await adding
            assert is_there(index)

    play(story)


@pytest.mark.parametrize("version", Version)
def test_offsets_that_waited_do_not_become_part_of_the_next_transaction(version: Version) -> None:
    """They come while the markers of theirs are written; the next transaction has the same group, and is begun before
    they are looked at."""

    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = before = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 0)], version)
        await transactions.add_group(LIBRARY_CALLER, "tx", producer, "g", version)
        world.engine.hold = asyncio.get_running_loop().create_future()
        producer = await transactions.end(LIBRARY_CALLER, "tx", producer, False, version)
        adding = asyncio.ensure_future(transactions.add_group(LIBRARY_CALLER, "tx", producer, "g", version))
        await turns(5)
        late = asyncio.ensure_future(
            kind_of(transactions.commit_offsets(LIBRARY_CALLER, "tx", before, version, "g", MemberAsked(), OFFSETS))
        )
        await turns(5)
        world.engine.hold.set_result(None)
        await adding
        assert await late is (ErrorKind.PRODUCER_FENCED if version is V2 else ErrorKind.INVALID_TXN_STATE)
        await transactions.end(LIBRARY_CALLER, "tx", producer, True, version)
        await world.until(world.is_stable)
        assert await world.offset() is None

    play(story)


def test_offsets_whose_group_is_loaded_after_the_end_are_refused() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        ready, held = world.broker.groups._machines.ready, asyncio.get_running_loop().create_future()

        async def slow(group_id: str) -> object:
            await held
            return await ready(group_id)

        world.broker.groups._machines.ready = slow  # type: ignore[assignment, method-assign]
        late = asyncio.ensure_future(
            kind_of(transactions.commit_offsets(LIBRARY_CALLER, "tx", producer, V2, "g", MemberAsked(), OFFSETS))
        )
        while transactions.number("tx") != 1:
            await turns(1)
        await turns(20)
        world.broker.groups._machines.ready = ready  # type: ignore[method-assign]
        await transactions.end(LIBRARY_CALLER, "tx", producer, False, V2)
        held.set_result(None)
        assert await late is ErrorKind.INVALID_TXN_STATE
        runner = await ready("g")
        assert not len(runner.machine.offsets)

    play(story)


@pytest.mark.parametrize("committed", [True, False])
def test_an_end_that_uses_up_the_epochs_gives_a_new_producer_id(committed: bool) -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        runner = transactions._machines.runners["tx"]
        rows = await world.catalog.load(SCOPE)
        old = Producer(producer.producer_id, EPOCH_LAST - 1)
        row = decode_state(STATE_KEY, rows[STATE_KEY].value)._replace(producer=old)
        change = Change(SCOPE, STATE_KEY, encode_state(row))
        await world.catalog.commit(CommitId(bytes(16)), runner.lease, [change])
        runner.drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, "told to")
        producer = old
        for number in range(3):
            await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 0)], V2)
            producer = await transactions.end(LIBRARY_CALLER, "tx", producer, committed, V2)
            is_old = producer.producer_id == old.producer_id
            assert (is_old, producer.epoch) == [(True, EPOCH_LAST), (False, 0), (False, 1)][number]
        await world.until(world.is_stable)

    play(story)


def test_verification_says_what_is_in_the_transaction_and_changes_nothing() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 0)], Version.PLAIN)
        errors = await transactions.add_partitions(
            LIBRARY_CALLER, "tx", producer, [(TOPIC, 0), (TOPIC, 1)], V2, verify_only=True
        )
        assert errors == [None, ErrorKind.TRANSACTION_ABORTABLE]
        (described,) = await transactions.describe(LIBRARY_CALLER, ["tx"])
        assert described.topics == {TOPIC: [0]}

    play(story)


def test_offsets_of_a_group_that_was_not_added_are_refused_to_older_clients() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 0)], Version.PLAIN)

        def commit(version: Version) -> Awaitable[object]:
            return transactions.commit_offsets(LIBRARY_CALLER, "tx", producer, version, "g", MemberAsked(), OFFSETS)

        assert await kind_of(commit(Version.PLAIN)) is ErrorKind.TRANSACTION_ABORTABLE
        await transactions.add_group(LIBRARY_CALLER, "tx", producer, "g", Version.PLAIN)
        assert await commit(Version.PLAIN) == [[None]]
        assert await world.offset() is None
        await transactions.end(LIBRARY_CALLER, "tx", producer, True, Version.PLAIN)
        await world.until(lambda: _is(world.offset(), 7))

    play(story)


async def _is(found: Awaitable[object], wanted: object) -> bool:
    return await found == wanted


class Allowing(AllowAll):
    """All but one kind of resource."""

    def __init__(self, but: ResourceKind) -> None:
        self.but = but

    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return resource.kind is not self.but


def test_who_may_not_use_the_id_is_refused_everything() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        nobody = Producer()
        for asked in (
            transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS),
            transactions.add_partitions(LIBRARY_CALLER, "tx", nobody, [(TOPIC, 0)], V2),
            transactions.add_group(LIBRARY_CALLER, "tx", nobody, "g", V2),
            transactions.commit_offsets(LIBRARY_CALLER, "tx", nobody, V2, "g", MemberAsked(), OFFSETS),
            transactions.end(LIBRARY_CALLER, "tx", nobody, True, V2),
        ):
            assert await kind_of(asked) is ErrorKind.UNAUTHORIZED
        assert [one.error for one in await transactions.describe(LIBRARY_CALLER, ["tx"])] == [ErrorKind.UNAUTHORIZED]
        assert await transactions.list(LIBRARY_CALLER) == []

    play(story, access=Allowing(ResourceKind.TRANSACTIONAL_ID))


def test_topics_and_groups_are_asked_for_too() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        errors = await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 0)], V2)
        assert errors == [ErrorKind.UNAUTHORIZED]

    play(story, access=Allowing(ResourceKind.TOPIC))

    async def of_group(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        with pytest.raises(GroupRefused):
            await transactions.add_group(LIBRARY_CALLER, "tx", producer, "g", V2)

    play(of_group, access=Allowing(ResourceKind.GROUP))


def test_ends_by_hand_are_for_operators() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        marker = (TOPIC, 0, Producer(5, 0), False, 0)
        assert await kind_of(transactions.write_markers(LIBRARY_CALLER, [marker])) is ErrorKind.UNAUTHORIZED

    play(story, access=Allowing(ResourceKind.CLUSTER))

    async def allowed(world: World) -> None:
        one = await session(world)
        one.begin()
        await one.append([record(b"hangs")])
        producer_id, epoch = one.producer
        errors = await world.broker.transactions.write_markers(
            LIBRARY_CALLER,
            [(TOPIC, 0, Producer(producer_id, epoch), False, 99), ("nothing", 0, Producer(1, 0), False, 0)],
        )
        assert [error.kind if error is not None else None for error in errors] == [None, ErrorKind.UNKNOWN_TOPIC]
        assert world.is_stable()
        assert await world.values() == []

    play(allowed)


def test_a_list_is_filtered() -> None:
    async def story(world: World) -> None:
        transactions = world.broker.transactions
        for name in ("a", "b", "ab"):
            await transactions.init(LIBRARY_CALLER, name, MINUTE_MS)
        one = await session(world, "c")
        one.begin()
        await one.append([record(b"v")])
        world.clock.advance(1000)

        async def ids(**filters: object) -> list[str]:
            return [listed.transactional_id for listed in await transactions.list(LIBRARY_CALLER, **filters)]  # type: ignore[arg-type]

        assert await ids() == ["a", "ab", "b", "c"]
        assert await ids(states=[TransactionState.ONGOING]) == ["c"]
        assert await ids(producer_ids=[one.producer.producer_id]) == ["c"]
        assert await ids(duration_ms=999) == ["c"]
        assert await ids(duration_ms=1000) == []
        assert await ids(pattern="a.*") == ["a", "ab"]
        assert await ids(pattern="b") == ["b"]
        assert await kind_of(transactions.list(LIBRARY_CALLER, pattern="(")) is ErrorKind.INVALID_REGULAR_EXPRESSION

    play(story)


def test_an_outcome_is_known_for_the_last_transaction() -> None:
    async def story(world: World) -> None:
        one = await session(world)
        outcome = world.broker.transactions.outcome
        assert await outcome("tx", 1) is Outcome.ABORTED
        assert await outcome("never heard of", 1) is Outcome.ABORTED
        one.begin()
        await one.append([record(b"v")])
        assert await outcome("tx", Number(1)) is Outcome.OPEN
        world.engine.hold = asyncio.get_running_loop().create_future()
        await one.commit()
        assert await outcome("tx", Number(1)) is Outcome.COMMITTED  # its markers are not written yet
        assert not world.is_stable()
        world.engine.hold.set_result(None)
        await world.until(world.is_stable)

    play(story)


# ---------------------------------------------------------------------- time


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() -> None:
    async def story(world: World) -> None:
        one = await session(world, timeout_ms=5000)
        one.begin()
        await one.append([record(b"late")])
        assert world.broker.transactions.open_count() == 1
        await world.until(world.is_stable, step_ms=100)
        assert world.broker.transactions.open_count() == 0
        assert await world.values() == []
        assert await kind_of(one.commit()) is not None
        assert world.broker.telemetry.transactions.timed_out == 1

    play(story)


def test_an_open_transaction_that_a_start_finds_times_out_without_being_asked_for() -> None:
    async def story(world: World) -> None:
        one = await session(world, timeout_ms=5000)
        one.begin()
        await one.append([record(b"orphan")])
        await world.restart()
        await world.until(world.is_stable, step_ms=100)
        assert await world.values() == []

    play(story)


def test_an_id_that_nobody_uses_goes_with_all_its_rows() -> None:
    async def story(world: World) -> None:
        one = await session(world)
        one.begin()
        await one.append([record(b"v")])
        await one.commit()
        await world.until(lambda: not world.broker.transactions._machines.runners, step_ms=1000)
        assert await world.catalog.load(SCOPE) == {}
        assert not world.broker.transactions._machines.admitted
        assert await world.state() is None
        assert await world.values() == [b"v"]

    play(story, settings=BrokerSettings(transactional_id_expiration_ms=10_000))


# ---------------------------------------------------------------------- faults


async def transact(world: World, committed: bool) -> None:
    """One transaction over both partitions and a group."""
    one = await session(world)
    one.begin()
    await one.append([record(b"a"), record(b"b", 1)])
    await one.commit_offsets("g", OFFSETS)
    await (one.commit() if committed else one.abort())


async def commits_of(committed: bool) -> int:
    world = World()
    await world.start()
    before = world.catalog.count
    await transact(world, committed)
    await world.until(lambda: _is(_seen(world), True), step_ms=10)
    for _ in range(20):
        world.clock.advance(100)
        await turns()
    count = world.catalog.count - before
    await world.stop()
    return count


async def _seen(world: World) -> bool:
    complete = {TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT}
    return world.is_stable() and await world.state() in complete


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("after", [False, True])
def test_a_broker_that_is_killed_at_any_commit_leaves_all_or_nothing(committed: bool, after: bool) -> None:
    """Killed at each commit of the catalog, before it was done and after. The next broker finishes by itself what was
    decided, aborts what was not, and an answered commit was one."""

    async def once(dies_in: int) -> bool:
        world = World()
        await world.start()
        world.catalog.dies_at = world.catalog.count + dies_in
        world.catalog.dies_after = after
        task = asyncio.ensure_future(transact(world, committed))
        await turns(400)
        world.clock.advance(1000)  # lazy rows
        await turns(100)
        was_answered = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        has_died = world.catalog.count > world.catalog.dies_at
        await world.restart()
        await world.until(world.is_stable, step_ms=500)
        seen = await world.values(0) + await world.values(1)
        await world.until(lambda: _is(_settled(world), True), step_ms=50)
        offset = await world.offset()
        assert (seen, offset) in (([], None), ([b"a", b"b"], 7)), (dies_in, seen, offset)
        if was_answered:
            assert bool(seen) is committed
        if not committed:
            assert seen == []
        again = await session(world)
        again.begin()
        await again.append([record(b"next")])
        await again.commit()
        await world.until(world.is_stable, step_ms=5)
        assert (await world.values(0))[-1] == b"next"
        await world.stop()
        return has_died

    async def each() -> None:
        count = await commits_of(committed)
        died = [await once(dies_in) for dies_in in range(count)]
        assert count >= 5
        assert died.count(True) >= 5

    asyncio.run(each())


async def _settled(world: World) -> bool:
    """The group knows what became of what it keeps."""
    rows = await world.catalog.load(Scope("group", "g"))
    return not any(key.startswith("pending/") for key in rows)


def test_markers_that_a_killed_broker_did_not_write_are_written_by_the_next() -> None:
    async def story(world: World) -> None:
        world.engine.hold = asyncio.get_running_loop().create_future()
        await transact(world, committed=True)
        assert not world.is_stable()
        await world.kill()
        world.engine.hold = None
        await world.start()
        await world.until(world.is_stable)
        assert await world.values(0) + await world.values(1) == [b"a", b"b"]
        await world.until(lambda: _is(world.offset(), 7))

    play(story)


def test_a_commit_whose_reply_is_lost_happened_once() -> None:
    async def story(world: World) -> None:
        for dial in ("lost_replies", "lost_requests"):
            one = await session(world)
            one.begin()
            setattr(world.catalog, dial, 2)
            await one.append([record(dial.encode())])
            setattr(world.catalog, dial, 2)
            ending = asyncio.ensure_future(one.commit())
            await world.until(ending.done, step_ms=20)
            await ending
            await world.until(world.is_stable, step_ms=20)
        assert await world.values() == [b"lost_replies", b"lost_requests"]
        assert world.broker.telemetry.transactions.committed == 2

    async def with_time(world: World) -> None:
        telling = asyncio.ensure_future(story(world))
        await world.until(telling.done, step_ms=5)
        await telling

    play(with_time)


@pytest.mark.parametrize("dial", ["refusals", "conflicts"])
def test_a_decision_that_is_refused_was_not_made_and_may_be_asked_for_again(dial: str) -> None:
    async def story(world: World) -> None:
        one = await session(world)
        one.begin()
        await one.append([record(b"v")])
        setattr(world.catalog, dial, 1)
        producer = one.producer
        kinds = {"refusals": ErrorKind.COORDINATOR_NOT_AVAILABLE, "conflicts": ErrorKind.NOT_COORDINATOR}
        transactions = world.broker.transactions
        assert await kind_of(transactions.end(LIBRARY_CALLER, "tx", producer, True, V2)) is kinds[dial]
        assert world.engine.marker_calls == 0
        following = await transactions.end(LIBRARY_CALLER, "tx", producer, True, V2)
        assert following == Producer(producer.producer_id, producer.epoch + 1)
        assert await transactions.end(LIBRARY_CALLER, "tx", producer, True, V2) == following  # its answer was lost
        await world.until(world.is_stable)
        assert await world.values() == [b"v"]

    play(story)


def test_a_coordinator_that_lost_its_lease_decides_nothing() -> None:
    async def story(world: World) -> None:
        one = await session(world)
        one.begin()
        await one.append([record(b"v")])
        world.catalog.steal(SCOPE)
        assert await kind_of(one.commit()) is ErrorKind.NOT_COORDINATOR
        assert world.engine.marker_calls == 0
        assert not world.is_stable()

    play(story)


def test_a_start_that_cannot_reach_the_catalog_serves_the_ids_later() -> None:
    async def story(world: World) -> None:
        world.catalog.taken_by[SCOPE] = "elsewhere:9092"
        transactions = world.broker.transactions
        assert await kind_of(transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)) is ErrorKind.NOT_COORDINATOR
        del world.catalog.taken_by[SCOPE]
        assert (await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)).epoch == 0

    play(story)


# ---------------------------------------------------------------------- fairness and the end


def test_an_id_whose_markers_cannot_be_written_is_in_nobodys_way() -> None:
    async def story(world: World) -> None:
        world.engine.refusal = RiverlogError(ErrorKind.STORAGE, "offline")
        stuck = await session(world, "stuck")
        stuck.begin()
        await stuck.append([record(b"stuck", 1)])
        world.engine.refusals = 10**9
        await stuck.commit()
        await turns(50)
        assert world.engine.refusals < 10**9
        world.engine.refusals = 0
        for number in range(20):
            one = await session(world, f"tx{number}")
            one.begin()
            await one.append([record(b"%d" % number)])
            await one.commit()

        def is_stable() -> bool:
            marks = world.engine.watermarks(world.partition())
            return marks.last_stable_offset == marks.log_end

        await world.until(is_stable)
        assert len(await world.values()) == 20
        assert not world.is_stable()
        await world.until(world.is_stable, step_ms=100)
        assert await world.values(1) == [b"stuck"]

    play(story)


def test_who_asks_while_markers_are_written_waits_a_second_and_is_told_then() -> None:
    async def story(world: World) -> None:
        one = await session(world)
        one.begin()
        await one.append([record(b"first")])
        world.engine.hold = asyncio.get_running_loop().create_future()
        await one.commit()
        transactions = world.broker.transactions
        adding = [
            asyncio.ensure_future(
                kind_of(transactions.add_partitions(LIBRARY_CALLER, "tx", one.producer, [(TOPIC, 1)], V2))
            )
            for _ in range(500)
        ]
        await turns(50)
        refused_at_once = sum(task.done() for task in adding)
        assert refused_at_once == 400  # a flood is not kept
        world.clock.advance(1001)
        assert set(await asyncio.gather(*adding)) == {ErrorKind.CONCURRENT_TRANSACTIONS}
        waiting = asyncio.ensure_future(
            transactions.add_partitions(LIBRARY_CALLER, "tx", one.producer, [(TOPIC, 1)], V2)
        )
        await turns(50)
        assert not waiting.done()
        world.engine.hold.set_result(None)
        assert await waiting == [None]

    play(story)


def test_lazy_rows_are_written_by_a_clean_stop() -> None:
    async def story(world: World) -> None:
        one = await session(world)
        one.begin()
        await one.append([record(b"v")])
        await one.commit()
        await world.until(world.is_stable)
        await turns(5)
        await world.broker.transactions.close()
        calls = world.engine.marker_calls
        await world.restart()
        assert await world.state() is TransactionState.COMPLETE_COMMIT
        assert world.engine.marker_calls == calls

    play(story)


def test_after_the_end_everything_is_told_to_ask_again() -> None:
    async def story(world: World) -> None:
        one = await session(world)
        one.begin()
        await one.append([record(b"v")])
        await world.broker.transactions.close()
        assert await kind_of(one.commit()) is ErrorKind.COORDINATOR_NOT_AVAILABLE
        asked = world.broker.transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)
        assert await kind_of(asked) is ErrorKind.COORDINATOR_NOT_AVAILABLE

    play(story)
