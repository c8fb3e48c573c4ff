"""The catalog's in-memory twin: for brokers in a test and for tests that need a catalog to refuse, conflict or lose a
reply.

It answers at once, without a turn of the loop, unless `late` is set. Nothing is kept: `reopened` gives another start
over the same rows, as a directory would. Not for data that must last. """

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Self

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


class MemoryCatalog:
    """The dials count down, one commit each: `conflicts`, `refusals` (CatalogUnavailable), `lost_requests`
    (MaybeCommitted and not done) and `lost_replies` (MaybeCommitted and done). `taken_by[scope]` makes `own` answer
    OwnedBy; `steal` ends a lease. `late`: every call lets that many turns of the loop pass first."""

    def __init__(self, *, late: int = 0) -> None:
        self.late = late
        self.conflicts = 0
        self.refusals = 0
        self.lost_requests = 0
        self.lost_replies = 0
        self.taken_by: dict[Scope, str] = {}
        self.commits: deque[Sequence[Change]] = deque(maxlen=1000)  # what was done last, in order
        self._version = 0
        self._starts = 1
        self._stolen: dict[Scope, int] = {}
        self._scopes: dict[Scope, dict[str, Row]] = {}
        self._fed: dict[tuple[Scope, str], Changed] = {}
        self._done: dict[CommitId, Version] = {}
        self._closed = False
        self._removed = 0  # rows in `_fed` that are gone
        self._feeds = Feeds(self._history)

    def reopened(self) -> Self:
        """What the next process finds: the same rows, a higher epoch of leases, no memory of ids or of what is gone."""
        other = type(self)(late=self.late)
        other._version = self._version
        other._starts = self._starts + max(self._stolen.values(), default=0) + 1
        other._scopes = {scope: dict(rows) for scope, rows in self._scopes.items()}
        other._fed = {place: changed for place, changed in self._fed.items() if changed.value is not None}
        return other

    def steal(self, scope: Scope) -> None:
        """Whoever held the scope's lease does not hold it any more."""
        self._stolen[scope] = self._stolen.get(scope, 0) + 1

    async def own(self, scope: Scope) -> Lease | OwnedBy:
        await self._turn()
        if (address := self.taken_by.get(scope)) is not None:
            return OwnedBy(address)
        return Lease(scope, self._epoch(scope))

    async def release(self, lease: Lease) -> None:
        await self._turn()

    async def load(self, scope: Scope) -> Rows:
        await self._turn()
        return dict(self._scopes.get(scope, {}))

    async def scopes(self, kind: str) -> Sequence[Scope]:
        await self._turn()
        return sorted(scope for scope, rows in self._scopes.items() if scope.kind == kind and rows)

    async def commit(self, id: CommitId, lease: Lease | None, changes: Sequence[Change]) -> Version:
        await self._turn()
        if (version := self._done.get(id)) is not None:
            return version
        if self.refusals:
            self.refusals -= 1
            raise CatalogUnavailable("the catalog was told to refuse this commit")
        if self.lost_requests:
            self.lost_requests -= 1
            raise MaybeCommitted("the commit was lost on its way")
        if lease is not None and (lease.epoch != self._epoch(lease.scope) or lease.scope in self.taken_by):
            raise LeaseLost(f"the lease of {lease.scope} at epoch {lease.epoch} is over")
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("the catalog was told to see a conflict")
        self._check(changes)
        version = self._write(id, lease, changes)
        if self.lost_replies:
            self.lost_replies -= 1
            raise MaybeCommitted("the reply was lost")
        return version

    def feed(self, after: Version) -> AsyncIterator[Sequence[Changed]]:
        return self._feeds.follow(after)

    async def close(self) -> None:
        self._closed = True
        self._feeds.close()

    def fail(self, message: str) -> None:
        """From now on everything is refused, as after a failed sync."""
        self._feeds.fail(message)

    async def _turn(self) -> None:
        if self._closed:
            raise CatalogUnavailable("the catalog is closed")
        for _ in range(self.late):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(_end, turn)
            await turn
        if self._feeds.failure is not None:
            raise CatalogUnavailable(self._feeds.failure)

    def _epoch(self, scope: Scope) -> int:
        return self._starts + self._stolen.get(scope, 0)

    def _check(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.expected is not None:
                row = self._scopes.get(change.scope, {}).get(change.key)
                if (row.version if row is not None else 0) != change.expected:
                    found = f"version {row.version}" if row is not None else "none"
                    raise Conflict(
                        f"row {change.key} of {change.scope}: expected version {change.expected}, is {found}"
                    )

    def _write(self, id: CommitId, lease: Lease | None, changes: Sequence[Change]) -> Version:
        self._version += 1
        version = Version(self._version)
        for change in changes:
            rows = self._scopes.setdefault(change.scope, {})
            if change.value is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = Row(bytes(change.value), version)
        self._done[id] = version
        if len(self._done) > commit_ids_remembered:
            del self._done[next(iter(self._done))]
        self.commits.append(changes)
        if lease is None:
            told = [Changed(version, change.scope, change.key, change.value) for change in changes]
            for changed in told:
                place = (changed.scope, changed.key)
                self._fed.pop(place, None)  # so that the order stays that of versions
                self._fed[place] = changed
            self._removed += sum(changed.value is None for changed in told)
            if self._removed > removed_rows_remembered:
                self._forget_removed()
            self._feeds.tell(told)
        return version

    def _forget_removed(self) -> None:
        floor = self._feeds.floor(Version(self._version - 1))
        self._fed = {place: one for place, one in self._fed.items() if one.value is not None or one.version > floor}
        self._removed = sum(changed.value is None for changed in self._fed.values())

    async def _history(self, after: Version) -> Past:
        await self._turn()
        return Past([changed for changed in self._fed.values() if changed.version > after], Version(self._version))


def _end(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # who waited may have been cancelled
        turn.set_result(None)
