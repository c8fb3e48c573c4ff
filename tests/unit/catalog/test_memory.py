"""The dials of the in-memory catalog: what a test may ask it to do wrong."""

from __future__ import annotations

import asyncio

import pytest

from riverlog.catalog.contract import (
    CatalogUnavailable,
    Change,
    CommitId,
    Conflict,
    Lease,
    LeaseLost,
    MaybeCommitted,
    OwnedBy,
    Scope,
    Version,
)
from riverlog.catalog.memory import MemoryCatalog

GROUP = Scope("group", "g")
TOPICS = Scope("topics", "")


def commit_id(number: int) -> CommitId:
    return CommitId(number.to_bytes(16))


def change(value: bytes, scope: Scope = TOPICS) -> Change:
    return Change(scope, "a", value)


def test_each_dial_counts_down_one_commit_at_a_time() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        catalog.conflicts = catalog.refusals = catalog.lost_requests = 1
        for expected in (CatalogUnavailable, MaybeCommitted, Conflict):
            with pytest.raises(expected):
                await catalog.commit(commit_id(1), None, [change(b"1")])
            assert await catalog.load(TOPICS) == {}
        version = await catalog.commit(commit_id(1), None, [change(b"1")])
        catalog.lost_replies = 1
        with pytest.raises(MaybeCommitted):
            await catalog.commit(commit_id(2), None, [change(b"2")])
        assert await catalog.commit(commit_id(2), None, [change(b"2")]) == version + 1
        assert [row.value for row in (await catalog.load(TOPICS)).values()] == [b"2"]
        assert list(catalog.commits) == [[change(b"1")], [change(b"2")]]

    asyncio.run(story())


def test_a_lease_can_be_stolen_and_a_scope_taken() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        lease = await catalog.own(GROUP)
        assert isinstance(lease, Lease)
        await catalog.commit(commit_id(1), lease, [change(b"1", GROUP)])
        catalog.steal(GROUP)
        with pytest.raises(LeaseLost):
            await catalog.commit(commit_id(2), lease, [change(b"2", GROUP)])
        newer = await catalog.own(GROUP)
        assert isinstance(newer, Lease)
        assert newer.epoch > lease.epoch
        catalog.taken_by[GROUP] = "other:9092"
        assert await catalog.own(GROUP) == OwnedBy("other:9092")
        with pytest.raises(LeaseLost):
            await catalog.commit(commit_id(3), newer, [change(b"3", GROUP)])

    asyncio.run(story())


def test_a_stolen_lease_is_older_than_those_of_the_next_start() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        catalog.steal(GROUP)
        catalog.steal(GROUP)
        before = await catalog.own(GROUP)
        after = await catalog.reopened().own(GROUP)
        assert isinstance(before, Lease)
        assert isinstance(after, Lease)
        assert after.epoch > before.epoch

    asyncio.run(story())


def test_failing_ends_the_feed_with_the_reason() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        feed = catalog.feed(Version(0))
        waiting = asyncio.gather(anext(feed), return_exceptions=True)
        await catalog.own(GROUP)
        catalog.fail("the disk is broken")
        (outcome,) = await waiting
        assert isinstance(outcome, CatalogUnavailable)
        with pytest.raises(CatalogUnavailable, match="the disk is broken"):
            await catalog.load(TOPICS)

    asyncio.run(story())


def test_late_lets_others_run_first() -> None:
    async def story() -> None:
        order: list[str] = []
        catalog = MemoryCatalog(late=2)

        async def load() -> None:
            await catalog.load(TOPICS)
            order.append("loaded")

        async def other() -> None:
            order.append("other")

        await asyncio.gather(load(), other())
        assert order == ["other", "loaded"]

    asyncio.run(story())


def test_marks_of_removed_rows_do_not_pile_up() -> None:
    async def story() -> None:
        catalog = MemoryCatalog()
        for number in range(5000):
            await catalog.commit(commit_id(number), None, [Change(TOPICS, f"{number}", None)])
        assert len(catalog._fed) < 1100

    asyncio.run(story())
