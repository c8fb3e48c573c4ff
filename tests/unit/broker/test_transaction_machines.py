"""The effects of transactional ids: markers written again until they are there, what counts as done, deleted topics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId
from riverlog.base.units import MINUTE_MS
from riverlog.broker.produce import Lane, Write
from riverlog.broker.transaction_machines import TransactionRunner, marker_retry_pause_ms_max
from riverlog.broker.transaction_session import Records, TransactionSession
from riverlog.catalog.contract import CatalogUnavailable, Rows, Scope
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER
from riverlog.state.transactions.commands import TransactionState, Version
from riverlog.storage.contract import Acks, Appended, Isolation
from tests.transaction_world import OFFSETS, TOPIC, World, play, turns


async def begun(world: World, *partitions: int) -> TransactionSession:
    session = await world.broker.transactions.session(LIBRARY_CALLER, "tx", MINUTE_MS)
    session.begin()
    await session.append([Records(TOPIC, index, [NewRecord(1, None, b"%d" % index)]) for index in partitions])
    return session


@pytest.mark.parametrize("kind", [ErrorKind.STORAGE, ErrorKind.INTERNAL])
def test_markers_are_written_again_with_pauses_until_all_are_there(kind: ErrorKind) -> None:
    async def story(world: World) -> None:
        world.engine.refusal = RiverlogError(kind, "not now")
        world.engine.refusals = 5
        session = await begun(world, 0, 1)
        await session.commit()
        await turns(100)
        assert world.engine.marker_calls == 1  # then the clock stands still
        await world.until(world.is_stable, step_ms=10)
        assert world.engine.marker_calls == 4  # 2, 2 and 1 were refused
        assert await world.values(0) + await world.values(1) == [b"0", b"1"]

    play(story)


def test_pauses_grow_to_a_second_and_complaints_are_seldom(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        world.engine.refusals = 10**6
        session = await begun(world, 0)
        await session.commit()
        for _ in range(100):
            world.clock.advance(marker_retry_pause_ms_max)
            await turns(30)
        calls = world.engine.marker_calls
        assert 90 <= calls <= 101
        assert 3 <= sum("waits for" in message for message in caplog.messages) <= 5  # in 100 s
        world.engine.refusals = 0
        await world.until(world.is_stable, step_ms=marker_retry_pause_ms_max)

    play(story)


def test_a_partition_that_knows_a_later_epoch_needs_no_marker(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        world.engine.refusal = RiverlogError(ErrorKind.INVALID_PRODUCER_EPOCH, "a later one wrote here")
        world.engine.refusals = 1
        session = await begun(world, 0)
        await session.commit()
        await world.until(lambda: _complete(world))
        assert "knows a later epoch" in caplog.text

    play(story)


async def _complete(world: World) -> bool:
    return await world.state() is TransactionState.COMPLETE_COMMIT


def test_a_later_coordinator_ends_this_one() -> None:
    async def story(world: World) -> None:
        world.engine.refusal = RiverlogError(ErrorKind.TRANSACTION_COORDINATOR_FENCED, "epoch 9 wrote here")
        world.engine.refusals = 1
        session = await begun(world, 0)
        await session.commit()
        await world.until(lambda: "tx" not in world.broker.transactions._machines.runners, step_ms=100)
        assert await world.state() is TransactionState.PREPARE_COMMIT  # loaded again: the decision stands
        await world.until(world.is_stable)

    play(story)


def test_a_deleted_topic_is_in_nobodys_way() -> None:
    async def story(world: World) -> None:
        session = await begun(world, 0, 1)
        await session.commit_offsets("g", OFFSETS)
        await world.engine.delete_topic(world.topic.topic_id)
        await session.commit()
        await world.until(lambda: _complete(world))

    play(story)


def test_what_cannot_be_made_durable_is_not_committed() -> None:
    async def story(world: World) -> None:
        session = await begun(world, 0)

        failures = [RiverlogError(ErrorKind.STORAGE, "the partition is offline"), ValueError("a fault of ours")]

        async def cut(partitions: object, isolation: Isolation) -> dict[PartitionId, int]:
            raise failures.pop()

        world.engine.is_visible = lambda partition, producer_id: False  # type: ignore[method-assign]
        while failures:
            world.engine.cut = cut  # type: ignore[method-assign, assignment]
            with pytest.raises(RiverlogError) as caught:
                await session.commit()
            assert caught.value.kind is ErrorKind.TRANSACTION_ABORTABLE
            session._failure = None  # asked once more, past the session's own memory
            assert await world.state() is TransactionState.ONGOING
        assert world.engine.marker_calls == 0
        await session.abort()
        await world.until(world.is_stable)
        assert await world.values() == []

    play(story)


def test_what_was_answered_is_not_waited_for_again() -> None:
    async def story(world: World) -> None:
        session = await begun(world, 0)

        async def cut(partitions: object, isolation: Isolation) -> dict[PartitionId, int]:
            raise AssertionError("others may append there without end")

        world.engine.cut = cut  # type: ignore[method-assign, assignment]
        await session.commit()
        await world.until(lambda: _complete(world))
        assert world.engine.marker_calls == 1

    play(story)


def test_a_group_that_cannot_be_told_is_told_again() -> None:
    async def story(world: World) -> None:
        groups = world.broker.groups
        tell = groups.end_pending
        failures = [RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, "not now"), ValueError("a fault of ours")]

        async def end_pending(*asked: object) -> None:
            if failures:
                raise failures.pop()
            await tell(*asked)  # type: ignore[arg-type]

        groups.end_pending = end_pending  # type: ignore[method-assign, assignment]
        session = await begun(world)
        await session.commit_offsets("g", OFFSETS)
        await session.commit()
        await turns(50)
        assert await world.state() is TransactionState.PREPARE_COMMIT
        await world.until(lambda: _complete(world), step_ms=10)
        assert await world.offset() == 7

    play(story)


def test_a_partition_that_hangs_does_not_keep_the_groups_waiting() -> None:
    async def story(world: World) -> None:
        world.engine.hold = asyncio.get_running_loop().create_future()
        session = await begun(world, 0)
        await session.commit_offsets("g", OFFSETS)
        await session.commit()

        async def is_committed() -> bool:
            return await world.offset() == 7

        await world.until(is_committed)
        assert not world.is_stable()
        world.engine.hold.set_result(None)
        await world.until(world.is_stable)

    play(story)


@pytest.mark.parametrize("dial", ["refusals", "conflicts"])
@pytest.mark.parametrize("committed", [True, False])
def test_an_id_whose_machine_was_dropped_goes_on_without_being_asked(dial: str, committed: bool) -> None:
    """The commit of Complete, or of an addition, is refused, and nobody ever comes again."""

    async def story(world: World) -> None:
        session = await begun(world, 0)
        if committed:
            world.engine.hold = asyncio.get_running_loop().create_future()
            await session.commit()
            setattr(world.catalog, dial, 1)
            world.engine.hold.set_result(None)
        else:
            setattr(world.catalog, dial, 1)
            with pytest.raises(RiverlogError):
                await session.append([Records(TOPIC, 1, [NewRecord(1)])])
            assert not world.broker.transactions._machines.runners
        runners = world.broker.transactions._machines.runners
        await world.until(lambda: "tx" in runners and not getattr(world.catalog, dial), step_ms=10)
        await world.until(world.is_stable, step_ms=100)
        assert await world.values() == ([b"0"] if committed else [])

    play(story)


def test_a_marker_that_is_tried_again_does_not_end_the_next_transaction() -> None:
    """Older producers keep their epoch. The machine that wanted the marker was dropped, and the next one has written it."""

    async def story(world: World) -> None:
        transactions = world.broker.transactions
        producer = await transactions.init(LIBRARY_CALLER, "tx", MINUTE_MS)

        async def write(sequence: int) -> None:
            await transactions.add_partitions(LIBRARY_CALLER, "tx", producer, [(TOPIC, 0)], Version.PLAIN)
            batch = build_batch(
                [NewRecord(1, None, b"v")],
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                base_sequence=sequence,
                transactional=True,
            )
            writes = [Write(world.topic, 0, batch)]
            outcomes = world.broker.producing.produce(LIBRARY_CALLER, writes, Acks.ALL, Lane(), "tx", Version.PLAIN)
            (outcome,) = outcomes if isinstance(outcomes, Sequence) else await outcomes
            assert isinstance(outcome, Appended)

        await write(0)
        world.engine.refusals = 1
        await transactions.end(LIBRARY_CALLER, "tx", producer, True, Version.PLAIN)
        await world.until(lambda: not world.engine.refusals)
        await turns(20)
        transactions._machines.runners["tx"].drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, "told to")

        async def is_complete() -> bool:
            return await world.state() is TransactionState.COMPLETE_COMMIT

        await world.until(is_complete)
        await write(1)
        for _ in range(10):
            world.clock.advance(marker_retry_pause_ms_max)
            await turns(20)
        assert not world.is_stable()
        await transactions.end(LIBRARY_CALLER, "tx", producer, False, Version.PLAIN)
        await world.until(world.is_stable)
        assert await world.values() == [b"v"]

    play(story)


@pytest.mark.parametrize("kind", [ErrorKind.COORDINATOR_NOT_AVAILABLE, ErrorKind.NOT_COORDINATOR])
def test_a_machine_that_is_dropped_as_soon_as_it_is_loaded_is_loaded_again(kind: ErrorKind) -> None:
    async def story(world: World) -> None:
        await begun(world, 0)
        machines = world.broker.transactions._machines
        load, drops = machines._load, 3

        async def load_and_drop(name: str) -> TransactionRunner:
            nonlocal drops
            runner = await load(name)
            if drops:
                drops -= 1
                runner.drop(kind, "told to")
            return runner

        machines._load = load_and_drop  # type: ignore[method-assign]
        machines.runners["tx"].drop(kind, "told to")
        await world.until(lambda: "tx" in machines.runners and not drops, step_ms=100)
        await world.until(world.is_stable, step_ms=1_000)  # it times out
        assert await world.values() == []

    play(story)


def test_a_start_loads_all_ids_although_the_catalog_cannot_be_asked_at_first() -> None:
    async def story(world: World) -> None:
        await begun(world, 0)
        await world.kill()
        scopes, load = world.catalog.scopes, world.catalog.load
        failures = 5

        async def unavailable() -> None:
            nonlocal failures
            failures -= 1
            if failures > 0:
                raise CatalogUnavailable("not now")

        async def scopes_later(kind: str) -> Sequence[Scope]:
            if kind == "transaction":
                await unavailable()
            return await scopes(kind)

        async def load_later(scope: Scope) -> Rows:
            if scope.kind == "transaction":
                await unavailable()
            return await load(scope)

        world.catalog.scopes = scopes_later  # type: ignore[method-assign]
        world.catalog.load = load_later  # type: ignore[method-assign]
        await world.start()
        await world.until(world.is_stable, step_ms=50)
        assert failures < 0
        assert await world.values() == []

    play(story)


def test_an_id_that_somebody_else_owns_is_left_to_him() -> None:
    async def story(world: World) -> None:
        session = await begun(world, 0)
        world.catalog.taken_by[Scope("transaction", "tx")] = "elsewhere:9092"
        with pytest.raises(RiverlogError):
            await session.commit()
        machines = world.broker.transactions._machines
        await world.until(lambda: not machines._load_again, step_ms=10)
        assert not machines.runners

    play(story)


def test_an_id_of_which_nothing_was_ever_written_is_not_kept() -> None:
    async def story(world: World) -> None:
        await world.broker.producer_ids.take()  # a block of them is there now
        world.catalog.refusals = 1
        with pytest.raises(RiverlogError):
            await world.broker.transactions.session(LIBRARY_CALLER, "never", MINUTE_MS)
        machines = world.broker.transactions._machines
        await world.until(lambda: not machines._load_again and not machines.runners, step_ms=10)

    play(story)


def test_a_request_that_comes_before_a_load_is_tried_again_leaves_one_machine() -> None:
    """Of two, the older would end the transactions of the newer one by its clock."""

    async def story(world: World) -> None:
        session = await begun(world, 0)
        world.catalog.conflicts = 1
        with pytest.raises(RiverlogError):
            await session.commit()
        machines = world.broker.transactions._machines
        await turns(20)
        assert machines._load_again == {"tx"}
        assert not machines.runners
        assert await world.state() is TransactionState.ONGOING
        (runner,) = machines.runners.values()
        await world.until(lambda: not machines._load_again, step_ms=10)
        assert list(machines.runners.values()) == [runner]

    play(story)
