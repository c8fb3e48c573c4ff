"""Followers of a feed: order, falling behind, giving up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from riverlog.catalog.contract import CatalogUnavailable, Changed, Scope, Version
from riverlog.catalog.feed import Feeds, Past, feed_changes_waiting_max

SCOPE = Scope("topics", "")


def changed(version: int) -> Changed:
    return Changed(Version(version), SCOPE, f"row {version}", b"")


class History:
    """A history that counts how often it was read, and can hold its readers up."""

    def __init__(self) -> None:
        self.changes: list[Changed] = []
        self.reads = 0
        self.gate: asyncio.Future[None] | None = None

    async def read(self, after: Version) -> Past:
        self.reads += 1
        past = Past([one for one in self.changes if one.version > after], Version(len(self.changes)))
        if self.gate is not None:
            await self.gate
        return past


def versions(changes: Sequence[Changed]) -> list[int]:
    return [change.version for change in changes]


def test_what_is_told_while_the_past_is_read_comes_once() -> None:
    async def story() -> None:
        history = History()
        feeds = Feeds(history.read)
        follower = feeds.follow(Version(0))
        history.gate = asyncio.get_running_loop().create_future()
        history.changes = [changed(1), changed(2)]
        first = asyncio.ensure_future(anext(follower))
        while history.reads == 0:
            await asyncio.sleep(0)
        feeds.tell([changed(2)])
        history.changes.append(changed(3))
        feeds.tell([changed(3)])
        history.gate.set_result(None)
        assert versions(await first) == [1, 2]
        assert versions(await anext(follower)) == [3]

    asyncio.run(story())


def test_a_follower_that_falls_behind_reads_the_past_again() -> None:
    async def story() -> None:
        history = History()
        feeds = Feeds(history.read)
        follower = feeds.follow(Version(0))
        history.changes = [changed(1)]
        assert versions(await anext(follower)) == [1]
        for number in range(2, feed_changes_waiting_max + 10):
            history.changes.append(changed(number))
            feeds.tell([history.changes[-1]])
        assert len(follower._queue) <= feed_changes_waiting_max
        seen = versions(await anext(follower))
        assert seen == list(range(2, feed_changes_waiting_max + 10))
        assert history.reads == 2

    asyncio.run(story())


def test_giving_up_ends_the_iteration_and_the_telling() -> None:
    async def story() -> None:
        feeds = Feeds(History().read)
        follower = feeds.follow(Version(0))
        waiting = asyncio.gather(anext(follower), return_exceptions=True)
        await asyncio.sleep(0)
        await follower.aclose()
        assert isinstance((await waiting)[0], StopAsyncIteration)
        assert not feeds.followers

    asyncio.run(story())


def test_a_failure_wakes_everybody() -> None:
    async def story() -> None:
        feeds = Feeds(History().read)
        follower = feeds.follow(Version(0))
        waiting = asyncio.gather(anext(follower), return_exceptions=True)
        await asyncio.sleep(0)
        feeds.fail("broken")
        assert isinstance((await waiting)[0], CatalogUnavailable)
        with pytest.raises(CatalogUnavailable):
            await anext(follower)

    asyncio.run(story())
