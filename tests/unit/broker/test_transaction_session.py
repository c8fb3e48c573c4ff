"""A transactional producer without a protocol."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.units import MINUTE_MS
from riverlog.broker.transaction_session import Records, TransactionSession
from riverlog.records.record import NewRecord
from riverlog.state.access import LIBRARY_CALLER
from riverlog.state.transactions.commands import Producer, TransactionState
from tests.transaction_world import OFFSETS, TOPIC, World, play

COMMITTED = (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)


async def opened(world: World) -> TransactionSession:
    return await world.broker.transactions.session(LIBRARY_CALLER, "tx", MINUTE_MS)


def records(*values: bytes, partition: int = 0) -> Records:
    return Records(TOPIC, partition, [NewRecord(1, None, value) for value in values])


@pytest.mark.parametrize("late", [False, True])
def test_what_was_committed_is_seen_and_what_was_aborted_is_not(late: bool) -> None:
    async def story(world: World) -> None:
        session = await opened(world)
        for number in range(6):
            session.begin()
            (first, second) = await session.append(
                [records(b"%d" % number, b"more"), records(b"%d" % number, partition=1)]
            )
            assert (first.next_offset - first.base_offset, second.next_offset - second.base_offset) == (2, 1)
            await session.append([records(b"again")])
            await (session.commit() if number % 2 else session.abort())
        await world.until(world.is_stable)
        assert await world.values() == [b"1", b"more", b"again", b"3", b"more", b"again", b"5", b"more", b"again"]
        assert await world.values(1) == [b"1", b"3", b"5"]

    play(story, late=late)


def test_offsets_are_the_groups_with_the_commit() -> None:
    async def story(world: World) -> None:
        session = await opened(world)
        for end, expected in ((session.abort, None), (session.commit, 7)):
            session.begin()
            await session.commit_offsets("g", OFFSETS)
            assert await world.offset() is None
            await end()

            async def is_there(expected: int | None = expected) -> bool:
                return await world.offset() == expected

            await world.until(is_there)

    play(story)


def test_one_transaction_at_a_time() -> None:
    async def story(world: World) -> None:
        session = await opened(world)
        assert not session.is_open
        await session.abort()  # nothing is open, nothing happens
        for asked in (session.commit(), session.append([records(b"v")]), session.commit_offsets("g", OFFSETS)):
            with pytest.raises(RiverlogError) as caught:
                await asked
            assert caught.value.kind is ErrorKind.INVALID_TXN_STATE
        session.begin()
        assert session.is_open
        with pytest.raises(RiverlogError):
            session.begin()
        await session.commit()  # empty: nobody is asked
        session.begin()
        await session.abort()
        assert session.producer.epoch == 0

    play(story)


def test_a_failure_leaves_nothing_but_abort() -> None:
    async def story(world: World) -> None:
        session = await opened(world)
        session.begin()
        await session.append([records(b"half")])
        with pytest.raises(RiverlogError) as caught:
            await session.append([Records("nothing", 0, [NewRecord(1)])])
        assert caught.value.kind is ErrorKind.UNKNOWN_TOPIC
        for asked in (session.commit(), session.append([records(b"v")])):
            with pytest.raises(RiverlogError) as again:
                await asked
            assert again.value.kind is ErrorKind.UNKNOWN_TOPIC
        await session.abort()
        session.begin()
        with pytest.raises(RiverlogError):
            await session.append([Records(TOPIC, 77, [NewRecord(1)])])  # refused before the coordinator heard of it
        await session.abort()
        session.begin()
        await session.append([records(b"whole")])
        await session.commit()
        await world.until(world.is_stable)
        assert await world.values() == [b"whole"]

    play(story)


def test_offsets_that_are_refused_leave_nothing_but_abort() -> None:
    async def story(world: World) -> None:
        session = await opened(world)
        session.begin()
        with pytest.raises(RiverlogError) as caught:
            await session.commit_offsets("g", [OFFSETS[0]._replace(name="nothing")])
        assert caught.value.kind is ErrorKind.UNKNOWN_TOPIC
        with pytest.raises(RiverlogError):
            await session.commit()
        await session.abort()

    play(story)


def test_a_call_that_was_cancelled_leaves_nothing_but_abort() -> None:
    async def story(world: World) -> None:
        session = await opened(world)
        session.begin()
        appending = asyncio.ensure_future(session.append([records(b"who knows")]))
        await world.until(lambda: bool(session._sequences))
        appending.cancel()
        await asyncio.gather(appending, return_exceptions=True)
        with pytest.raises(RiverlogError) as caught:
            await session.commit()
        assert caught.value.kind is ErrorKind.TRANSACTION_ABORTABLE
        await session.abort()
        await world.until(world.is_stable)
        assert await world.values() == []

    play(story)


def test_the_next_session_fences_the_one_before_and_aborts_what_it_left() -> None:
    async def story(world: World) -> None:
        zombie = await opened(world)
        zombie.begin()
        await zombie.append([records(b"zombie")])
        session = await opened(world)
        assert session.producer == Producer(zombie.producer.producer_id, zombie.producer.epoch + 2)
        with pytest.raises(RiverlogError) as caught:
            await zombie.append([records(b"more of it")])
        assert caught.value.kind is ErrorKind.INVALID_PRODUCER_EPOCH
        with pytest.raises(RiverlogError):
            await zombie.commit()
        session.begin()
        await session.append([records(b"alive")])
        await session.commit()
        await world.until(world.is_stable)
        assert await world.values() == [b"alive"]

    play(story)


@pytest.mark.parametrize("lost", [True, False])
def test_a_commit_whose_answer_was_lost_is_asked_again_and_never_taken_for_aborted(lost: bool) -> None:
    """`lost`: to a caller that went away; else to a coordinator that is loaded again."""

    async def story(world: World) -> None:
        session = await opened(world)
        session.begin()
        await session.append([records(b"whole")])
        machines = world.broker.transactions._machines
        committing = asyncio.ensure_future(session.commit())
        await world.until(lambda: machines.runners["tx"].machine.state in COMMITTED)
        if lost:
            committing.cancel()
        else:
            machines.runners["tx"].drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, "told to")
        (answer,) = await asyncio.gather(committing, return_exceptions=True)
        assert isinstance(answer, BaseException)
        await world.until(world.is_stable, step_ms=100)
        with pytest.raises(RiverlogError) as caught:
            await session.abort()
        assert caught.value.kind is ErrorKind.INVALID_TXN_STATE
        assert session.is_open
        await session.commit()
        session.begin()
        await session.append([records(b"next")])
        await session.commit()
        await world.until(world.is_stable)
        assert await world.values() == [b"whole", b"next"]

    play(story)
