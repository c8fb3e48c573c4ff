"""The live part of a catalog's feed: what was committed without a lease, told to everybody in this process who follows.

Invariant: a follower is told every change after the version that it asked for, in order, whole commits at a time. A
follower that falls behind loses its queue, not its place: it reads the rows again from the version that it had.
Not here: where rows are kept. Each catalog gives `history`, which reads what changed after a version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from riverlog.catalog.contract import CatalogUnavailable, Changed, Version

feed_changes_waiting_max: Final = 10_000
removed_rows_remembered: Final = 1_000  # at least; more while a follower has not been told of them


class Past(NamedTuple):
    """Everything after the version that was asked for and up to `version`."""

    changes: Sequence[Changed]
    version: Version


History = Callable[[Version], Awaitable[Past]]


class Follower:
    """One iterator of the feed. Waits are of the loop that first iterates."""

    def __init__(self, feeds: Feeds, after: Version) -> None:
        self._feeds = feeds
        self.told = after
        self._behind = True  # what is told next comes from the history, not from the queue
        self._queue: list[Changed] = []
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Sequence[Changed]]:
        return self

    async def __anext__(self) -> Sequence[Changed]:
        while True:
            if self._feeds.failure is not None:
                raise CatalogUnavailable(self._feeds.failure)
            if self._closed or self._feeds.closed:
                raise StopAsyncIteration
            if self._behind:
                self._behind = False
                past = await self._feeds.history(self.told)
                self.told = past.version
                if past.changes:
                    return past.changes
            elif self._queue:
                changes = [change for change in self._queue if change.version > self.told]
                self._queue = []
                if changes:
                    self.told = changes[-1].version
                    return changes
            else:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake

    async def aclose(self) -> None:
        self._closed = True
        self._feeds.followers.discard(self)
        self.wake()

    def tell(self, changes: Sequence[Changed]) -> None:
        if len(self._queue) + len(changes) > feed_changes_waiting_max:
            self._queue = []
            self._behind = True
        elif not self._behind:
            self._queue.extend(changes)
        self.wake()

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Feeds:
    """The followers of one catalog."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.followers: set[Follower] = set()
        self.failure: str | None = None
        self.closed = False

    def follow(self, after: Version) -> Follower:
        follower = Follower(self, after)
        self.followers.add(follower)
        return follower

    def floor(self, version: Version) -> Version:
        """What everybody has been told; `version` where nobody follows. What is gone below it need not be
        remembered."""
        return min((follower.told for follower in self.followers), default=version)

    def tell(self, changes: Sequence[Changed]) -> None:
        """Called on the loop once these are durable, before those who committed them are answered."""
        if changes:
            for follower in self.followers:
                follower.tell(changes)

    def fail(self, message: str) -> None:
        self.failure = message
        self._wake_all()

    def close(self) -> None:
        self.closed = True
        self._wake_all()

    def _wake_all(self) -> None:
        for follower in self.followers:
            follower.wake()
