"""What runs on the thread of the SQLite catalog: one transaction for all that was asked while the last one ran.

Invariant: the outcomes of a run hold once it returned, and nothing of it does where it raised `Broken`. Commits of owned
scopes, which expect no versions, are written together, many rows a statement: each statement costs a hand-over of the
interpreter's lock, which is more than a row does. A commit that SQLite cannot keep (too large, not text) refuses only
itself: where one is among many, they are written one by one.
Not here: who asks, the feed (`sqlite.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

from riverlog.catalog.contract import (
    CatalogUnavailable,
    Change,
    Changed,
    CommitId,
    Conflict,
    Row,
    Scope,
    Version,
    commit_ids_remembered,
)
from riverlog.catalog.feed import Past, removed_rows_remembered

format_version: Final = 1  # docs/formats/catalog.md
rows_per_statement: Final = (128, 16, 1)  # few sizes, so that each is compiled once

_SELECT_VERSION: Final = "SELECT version FROM rows WHERE kind = ? AND name = ? AND key = ? AND value IS NOT NULL"
_INSERT: Final = "INSERT INTO rows (kind, name, key, value, version, fed) VALUES"
_OR_UPDATE: Final = (
    " ON CONFLICT (kind, name, key)"
    " DO UPDATE SET value = excluded.value, version = excluded.version, fed = excluded.fed"
)
_UPSERT: Final = f"{_INSERT} (?, ?, ?, ?, ?, ?){_OR_UPDATE}"
_UPSERTS: Final = {
    count: f"{_INSERT} {', '.join(['(?, ?, ?, ?, ?, 0)'] * count)}{_OR_UPDATE}" for count in rows_per_statement
}
_DELETE: Final = "DELETE FROM rows WHERE kind = ? AND name = ? AND key = ?"
_SELECT_SCOPE: Final = "SELECT key, value, version FROM rows WHERE kind = ? AND name = ? AND value IS NOT NULL"
_SELECT_SCOPES: Final = "SELECT DISTINCT name FROM rows WHERE kind = ? AND value IS NOT NULL ORDER BY name"
_SELECT_FED: Final = (
    "SELECT version, kind, name, key, value FROM rows WHERE fed = 1 AND version > ? ORDER BY version, kind, name, key"
)
_UNKEEPABLE: Final = (
    sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, UnicodeError, OverflowError
)  # fmt: skip


class CommitWork(NamedTuple):
    id: CommitId
    changes: Sequence[Change]
    fed: bool

    @property
    def is_blind(self) -> bool:
        """Of an owned scope, and whatever the rows are now: it cannot be refused for what they are."""
        return not self.fed and all(change.expected is None for change in self.changes)


class LoadWork(NamedTuple):
    scope: Scope


class ScopesWork(NamedTuple):
    kind: str


class HistoryWork(NamedTuple):
    after: Version


Work: TypeAlias = CommitWork | LoadWork | ScopesWork | HistoryWork


class Broken(Exception):
    """The transaction failed. `fatal`: nothing may be believed any more; `maybe`: it may have become durable."""

    def __init__(self, error: sqlite3.Error, *, maybe: bool) -> None:
        super().__init__(str(error))
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
        self.fatal = code & 0xFF != sqlite3.SQLITE_FULL
        self.maybe = maybe and self.fatal


class Database:
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

    def run(self, works: Sequence[Work], floor: Version) -> tuple[Sequence[Any], Sequence[Changed]]:
        """The outcomes in order, an exception where one was refused, and what is to be told. One transaction, where
        there is something to commit. Raises Broken: nothing of all this was done."""
        if not any(isinstance(work, CommitWork) for work in works):
            try:
                return [self._read(work) for work in works], []
            except sqlite3.Error as error:
                raise Broken(error, maybe=False) from error
        before, ended = self.version, False
        told: list[Changed] = []
        new: dict[CommitId, Version] = {}
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            outcomes = self._do(works, new, told)
            self.connection.execute("UPDATE meta SET value = ? WHERE name = 'version'", (self.version,))
            self._forget_removed(told, floor)
            ended = True
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.version = before
            self._roll_back()
            raise Broken(error, maybe=ended) from error
        self._remember(new)
        return outcomes, told

    def _do(self, works: Sequence[Work], new: dict[CommitId, Version], told: list[Changed]) -> list[Any]:
        """The outcomes in order. What comes one after another and expects nothing is written together."""
        outcomes: list[Any] = []
        blind: list[CommitWork] = []
        for work in works:
            if isinstance(work, CommitWork) and work.is_blind:
                blind.append(work)
                continue
            if blind:
                outcomes += self._commit_together(blind, new, told)
                blind = []
            outcomes.append(self._commit(work, new, told) if isinstance(work, CommitWork) else self._read(work))
        return outcomes + self._commit_together(blind, new, told)

    def _commit_together(
        self, commits: Sequence[CommitWork], new: dict[CommitId, Version], told: list[Changed]
    ) -> list[Any]:
        if len(commits) < 2:
            return [self._commit(commit, new, told) for commit in commits]
        outcomes: list[Any] = []
        version = Version(self.version)
        fresh: dict[CommitId, Version] = {}
        last: dict[tuple[Scope, str], tuple[bytes | None, Version]] = {}  # what each row is after all of them
        for id, changes, _ in commits:
            known = self.done.get(id) or new.get(id) or fresh.get(id)
            if known is None:
                version = known = fresh[id] = Version(version + 1)
                for scope, key, value, _ in changes:
                    last[scope, key] = (value, version)
            outcomes.append(known)
        self.connection.execute("SAVEPOINT many")
        try:
            self._write(last)
        except _UNKEEPABLE:
            self.connection.execute("ROLLBACK TO many")
            self.connection.execute("RELEASE many")
            return [self._commit(commit, new, told) for commit in commits]
        self.connection.execute("RELEASE many")
        self.version = version
        new.update(fresh)
        return outcomes

    def _write(self, last: Mapping[tuple[Scope, str], tuple[bytes | None, Version]]) -> None:
        execute = self.connection.execute
        rows = []
        for (scope, key), (value, version) in last.items():
            if value is None:
                execute(_DELETE, (*scope, key))
            else:
                rows.append((*scope, key, value, version))
        done = 0
        for count in rows_per_statement:
            while len(rows) - done >= count:
                execute(_UPSERTS[count], list(chain.from_iterable(rows[done : done + count])))
                done += count

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
        self, commit: CommitWork, new: dict[CommitId, Version], told: list[Changed]
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

    def _read(self, work: Work) -> Any:
        execute = self.connection.execute
        match work:
            case LoadWork(scope):
                return {key: Row(value, Version(version)) for key, value, version in execute(_SELECT_SCOPE, scope)}
            case ScopesWork(kind):
                return [Scope(kind, name) for (name,) in execute(_SELECT_SCOPES, (kind,))]
            case HistoryWork(after):
                changes = [
                    Changed(Version(version), Scope(kind, name), key, value)
                    for version, kind, name, key, value in execute(_SELECT_FED, (after,))
                ]
                return Past(changes, Version(self.version))
            case CommitWork():
                raise AssertionError("a commit is not read")


def _statements() -> list[str]:
    text = files("riverlog.catalog").joinpath("schema/sqlite.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";") if statement.strip()]
