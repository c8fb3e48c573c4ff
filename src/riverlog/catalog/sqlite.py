"""The catalog of one directory: SQLite in WAL mode with synchronous=FULL.

One connection, used by one writer thread at a time. What was asked while a transaction ran goes into the next one, in
the order in which it was asked, so a commit costs a share of one sync and a load sees every commit that was asked
before it. Each commit has its savepoint: a conflict refuses only its own. Nobody is answered before the transaction
is durable.

Commit ids are remembered in memory only: who could send one again died with this process. A lease is granted to
everybody who asks (there is one process, `riverlog.lock` sees to that); its epoch is the number of starts of the
directory.

After a failed sync or another disk error nothing is believed any more: all calls raise CatalogUnavailable and
`failed` is called once, so that the owner stops the broker. A full disk refuses only the commits that it hit. """

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple

from riverlog.catalog.contract import (
    CatalogUnavailable,
    Change,
    Changed,
    CommitId,
    Lease,
    LeaseLost,
    MaybeCommitted,
    OwnedBy,
    Rows,
    Scope,
    Version,
)
from riverlog.catalog.feed import Feeds
from riverlog.catalog.sqlite_database import Broken, CommitWork, Database, HistoryWork, LoadWork, ScopesWork, Work
from riverlog.env.executor import Executor

asked_per_transaction_max: Final = 1_000


class _Asked(NamedTuple):
    work: Work
    answer: asyncio.Future[Any]


class SqliteCatalog:
    """Opened with `open`. `failed` is called once on the loop, with what went wrong."""

    def __init__(self, path: str, executor: Executor, failed: Callable[[str], None] | None) -> None:
        self._path = path
        self._executor = executor
        self._failed = failed
        self._database = Database(path)
        self._asked: list[_Asked] = []
        self._running: asyncio.Future[Any] | None = None
        self._closing = False
        self._feeds = Feeds(lambda after: self._ask(HistoryWork(after)))

    @classmethod
    async def open(
        cls, path: str, executor: Executor, failed: Callable[[str], None] | None = None
    ) -> SqliteCatalog:
        """Makes the file where there is none. `executor`: one thread; the caller closes it after the catalog.
        Raises CatalogUnavailable where the file is not a catalog that this version can read."""
        catalog = cls(path, executor, failed)
        try:
            await executor.run(catalog._database.open)
        except sqlite3.Error as error:
            raise CatalogUnavailable(
                f"{path} cannot be opened: {error}; restore it, or move it away and lose the topics it knows"
            ) from error
        return catalog

    @property
    def starts(self) -> int:
        """How often this directory was opened, this time included."""
        return self._database.starts

    async def own(self, scope: Scope) -> Lease | OwnedBy:
        self._check_open()
        return Lease(scope, self._database.starts)

    async def release(self, lease: Lease) -> None:
        """Nobody else can ask for it."""

    async def load(self, scope: Scope) -> Rows:
        rows: Rows = await self._ask(LoadWork(scope))
        return rows

    async def scopes(self, kind: str) -> Sequence[Scope]:
        found: Sequence[Scope] = await self._ask(ScopesWork(kind))
        return found

    async def commit(self, id: CommitId, lease: Lease | None, changes: Sequence[Change]) -> Version:
        if lease is not None and lease.epoch != self._database.starts:
            raise LeaseLost(f"the lease of {lease.scope} is of start {lease.epoch}, this is start {self.starts}")
        version: Version = await self._ask(CommitWork(id, changes, lease is None))
        return version

    def feed(self, after: Version) -> AsyncIterator[Sequence[Changed]]:
        return self._feeds.follow(after)

    async def close(self) -> None:
        """Waits for what was asked, then lets go of the file."""
        if self._closing:
            return
        self._closing = True
        while self._running is not None:
            await asyncio.wait([self._running])
        self._feeds.close()
        await self._executor.run(self._database.close)

    def _check_open(self) -> None:
        if self._feeds.failure is not None:
            raise CatalogUnavailable(self._feeds.failure)
        if self._closing:
            raise CatalogUnavailable("the catalog is closed")

    def _ask(self, work: Work) -> asyncio.Future[Any]:
        self._check_open()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(work, answer))
        if self._running is None:
            self._run()
        return answer

    def _run(self) -> None:
        asked, self._asked = self._asked[:asked_per_transaction_max], self._asked[asked_per_transaction_max:]
        floor = self._feeds.floor(Version(self._database.version))
        self._running = self._executor.run(lambda: self._database.run([one.work for one in asked], floor))
        self._running.add_done_callback(lambda done: self._ran(asked, done))

    def _ran(self, asked: Sequence[_Asked], done: asyncio.Future[Any]) -> None:
        self._running = None
        if done.cancelled():
            self._refuse(asked, CatalogUnavailable("the catalog's thread was stopped"))
        elif (error := done.exception()) is not None:
            self._broke(asked, error)
        else:
            outcomes, told = done.result()
            self._feeds.tell(told)
            for one, outcome in zip(asked, outcomes, strict=True):
                if one.answer.done():
                    continue  # nobody waits any more
                if isinstance(outcome, Exception):
                    one.answer.set_exception(outcome)
                else:
                    one.answer.set_result(outcome)
        if self._asked:
            self._run()

    def _broke(self, asked: Sequence[_Asked], error: BaseException) -> None:
        fatal, maybe = (error.fatal, error.maybe) if isinstance(error, Broken) else (True, True)
        message = f"{self._path}: {error}; "
        message += "stop, look at the disk, and start again" if fatal else "make room on the disk and try again"
        if fatal:
            asked, self._asked = [*asked, *self._asked], []
            self._feeds.fail(message)
            if self._failed is not None:
                self._failed(message)
        self._refuse(asked, MaybeCommitted(message) if maybe else CatalogUnavailable(message))

    def _refuse(self, asked: Sequence[_Asked], error: Exception) -> None:
        for one in asked:
            if not one.answer.done():
                one.answer.set_exception(error)
