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
from importlib.resources import files
from typing import Any, Final, NamedTuple

from riverlog.catalog.contract import (
    CatalogUnavailable,
    Change,
    Changed,
    CommitId,
    Conflict,
    Lease,
    LeaseLost,
    MaybeCommitted,
    OwnedBy,
    Row,
    Rows,
    Scope,
    Version,
    commit_ids_remembered,
)
from riverlog.catalog.feed import Feeds, Past, removed_rows_remembered
from riverlog.env.executor import Executor

format_version: Final = 1  # docs/formats/catalog.md
asked_per_transaction_max: Final = 1_000

_SELECT_VERSION: Final = "SELECT version FROM rows WHERE kind = ? AND name = ? AND key = ? AND value IS NOT NULL"
_UPSERT: Final = (
    "INSERT INTO rows (kind, name, key, value, version, fed) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind, name, key)"
    " DO UPDATE SET value = excluded.value, version = excluded.version, fed = excluded.fed"
)
_DELETE: Final = "DELETE FROM rows WHERE kind = ? AND name = ? AND key = ?"
_SELECT_SCOPE: Final = "SELECT key, value, version FROM rows WHERE kind = ? AND name = ? AND value IS NOT NULL"
_SELECT_SCOPES: Final = "SELECT DISTINCT name FROM rows WHERE kind = ? AND value IS NOT NULL ORDER BY name"
_SELECT_FED: Final = (
    "SELECT version, kind, name, key, value FROM rows WHERE fed = 1 AND version > ? ORDER BY version, kind, name, key"
)
_UNKEEPABLE: Final = (
    sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, UnicodeError, OverflowError
)  # fmt: skip


class _Commit(NamedTuple):
    id: CommitId
    changes: Sequence[Change]
    fed: bool


class _Load(NamedTuple):
    scope: Scope


class _Scopes(NamedTuple):
    kind: str


class _History(NamedTuple):
    after: Version


_Work = _Commit | _Load | _Scopes | _History


class _Asked(NamedTuple):
    work: _Work
    answer: asyncio.Future[Any]


class _Broken(Exception):
    """The transaction failed. `fatal`: nothing may be believed any more; `maybe`: it may have become durable."""

    def __init__(self, error: sqlite3.Error, *, maybe: bool) -> None:
        super().__init__(str(error))
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
        self.fatal = code & 0xFF != sqlite3.SQLITE_FULL
        self.maybe = maybe and self.fatal


class SqliteCatalog:
    """Opened with `open`. `failed` is called once on the loop, with what went wrong."""

    def __init__(self, path: str, executor: Executor, failed: Callable[[str], None] | None) -> None:
        self._path = path
        self._executor = executor
        self._failed = failed
        self._database = _Database(path)
        self._asked: list[_Asked] = []
        self._running: asyncio.Future[Any] | None = None
        self._closing = False
        self._feeds = Feeds(lambda after: self._ask(_History(after)))

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
        rows: Rows = await self._ask(_Load(scope))
        return rows

    async def scopes(self, kind: str) -> Sequence[Scope]:
        found: Sequence[Scope] = await self._ask(_Scopes(kind))
        return found

    async def commit(self, id: CommitId, lease: Lease | None, changes: Sequence[Change]) -> Version:
        if lease is not None and lease.epoch != self._database.starts:
            raise LeaseLost(f"the lease of {lease.scope} is of start {lease.epoch}, this is start {self.starts}")
        version: Version = await self._ask(_Commit(id, changes, lease is None))
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

    def _ask(self, work: _Work) -> asyncio.Future[Any]:
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
        fatal, maybe = (error.fatal, error.maybe) if isinstance(error, _Broken) else (True, True)
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


class _Database:
    """The connection and what is known only of it. Used on the executor's thread alone, after `open`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.starts = 0
        self.version = 0
        self.removed = 0  # rows without a value, since the last time that they were counted
        self.removed_max = removed_rows_remembered
        self.done: dict[CommitId, Version] = {}

    def open(self) -> None:
        self.connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        execute = self.connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA busy_timeout = 0")
        found = execute("PRAGMA user_version").fetchone()[0]
        if found > format_version:
            raise sqlite3.NotSupportedError(f"it has format {found}, this version reads up to {format_version}")
        execute("BEGIN IMMEDIATE")
        if found == 0:
            for statement in _statements():
                execute(statement)
            execute(f"PRAGMA user_version = {format_version}")
            execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('version', 0), ('starts', 0)")
        execute("DELETE FROM rows WHERE value IS NULL")
        execute("UPDATE meta SET value = value + 1 WHERE name = 'starts'")
        meta = dict(execute("SELECT name, value FROM meta").fetchall())
        execute("COMMIT")
        self.starts, self.version = meta["starts"], meta["version"]

    def close(self) -> None:
        self.connection.close()

    def run(self, works: Sequence[_Work], floor: Version) -> tuple[Sequence[Any], Sequence[Changed]]:
        """The outcomes in order, an exception where one was refused, and what is to be told. One transaction, where
        there is something to commit. Raises _Broken: nothing of all this was done."""
        if not any(isinstance(work, _Commit) for work in works):
            try:
                return [self._read(work) for work in works], []
            except sqlite3.Error as error:
                raise _Broken(error, maybe=False) from error
        before, ended = self.version, False
        told: list[Changed] = []
        new: dict[CommitId, Version] = {}
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            outcomes = [
                self._commit(work, new, told) if isinstance(work, _Commit) else self._read(work) for work in works
            ]
            self.connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", (self.version,))
            self._forget_removed(told, floor)
            ended = True
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.version = before
            self._roll_back()
            raise _Broken(error, maybe=ended) from error
        self._remember(new)
        return outcomes, told

    def _forget_removed(self, told: Sequence[Changed], floor: Version) -> None:
        self.removed += sum(changed.value is None for changed in told)
        if self.removed > self.removed_max:
            self.connection.execute("DELETE FROM rows WHERE value IS NULL AND version <= ?", (floor,))
            self.removed = self.connection.execute("SELECT count(*) FROM rows WHERE value IS NULL").fetchone()[0]
            self.removed_max = self.removed + removed_rows_remembered

    def _remember(self, new: dict[CommitId, Version]) -> None:
        self.done.update(new)
        while len(self.done) > commit_ids_remembered:
            del self.done[next(iter(self.done))]

    def _roll_back(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # the transaction's own error is what is told

    def _commit(
        self, commit: _Commit, new: dict[CommitId, Version], told: list[Changed]
    ) -> Version | Exception:
        """Refuses with Conflict. A change that SQLite itself cannot take (too large, not text) refuses only its
        commit."""
        if (known := self.done.get(commit.id) or new.get(commit.id)) is not None:
            return known
        execute = self.connection.execute
        for change in commit.changes:
            if change.expected is not None:
                row = execute(_SELECT_VERSION, (*change.scope, change.key)).fetchone()
                if (row[0] if row is not None else 0) != change.expected:
                    found = f"version {row[0]}" if row is not None else "none"
                    return Conflict(
                        f"row {change.key} of {change.scope}: expected version {change.expected}, is {found}"
                    )
        version = Version(self.version + 1)
        execute("SAVEPOINT one")
        try:
            for change in commit.changes:
                if change.value is None and not commit.fed:
                    execute(_DELETE, (*change.scope, change.key))
                else:
                    execute(_UPSERT, (*change.scope, change.key, change.value, version, commit.fed))
        except _UNKEEPABLE as error:
            execute("ROLLBACK TO one")
            execute("RELEASE one")
            return CatalogUnavailable(f"the catalog cannot keep this commit: {error}")
        execute("RELEASE one")
        self.version = new[commit.id] = version
        if commit.fed:
            told.extend(Changed(version, change.scope, change.key, change.value) for change in commit.changes)
        return version

    def _read(self, work: _Work) -> Any:
        execute = self.connection.execute
        match work:
            case _Load(scope):
                return {key: Row(value, Version(version)) for key, value, version in execute(_SELECT_SCOPE, scope)}
            case _Scopes(kind):
                return [Scope(kind, name) for (name,) in execute(_SELECT_SCOPES, (kind,))]
            case _History(after):
                changes = [
                    Changed(Version(version), Scope(kind, name), key, value)
                    for version, kind, name, key, value in execute(_SELECT_FED, (after,))
                ]
                return Past(changes, Version(self.version))
            case _Commit():
                raise AssertionError("a commit is not read")


def _statements() -> list[str]:
    text = files("riverlog.catalog").joinpath("schema/sqlite.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";") if statement.strip()]
