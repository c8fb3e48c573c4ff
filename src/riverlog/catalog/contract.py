"""What a catalog promises. Every catalog passes `testing/conformance/catalog.py`.

Facts that are not records are rows, in scopes. An *owned* scope (a group, a transactional id) is decided by one
machine in the process that holds its lease, and each commit names that lease. An *unowned* scope (topics, configs)
may be decided by any process: a commit names the version of each row that it decided on. A commit is all or nothing,
is durable when it returns, and may be sent again with the same id (one of the last `commit_ids_remembered`): it takes
effect once. """

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple, NewType, Protocol

CommitId = NewType("CommitId", bytes)  # 16 random bytes
Version = NewType("Version", int)  # rises with each commit of the whole catalog; 0 is before the first


commit_ids_remembered: Final = 10_000


class Scope(NamedTuple):
    """`kind` is one of those in docs/formats/catalog.md ("topics", "group", …), `name` is what it is the scope of."""

    kind: str
    name: str


class Row(NamedTuple):
    value: bytes
    version: Version  # of the commit that wrote it


class Change(NamedTuple):
    """Row `key` of `scope` becomes `value` (None: is removed).

    `expected` is the version that the decision was made on: 0 for "there is no such row", None for "whatever it is"
    (owned scopes, whose lease is check enough)."""

    scope: Scope
    key: str
    value: bytes | None
    expected: Version | None = None


class Changed(NamedTuple):
    """One change that was committed, as the feed tells it."""

    version: Version
    scope: Scope
    key: str
    value: bytes | None


class Lease(NamedTuple):
    scope: Scope
    epoch: int


class OwnedBy(NamedTuple):
    """Somebody else holds the lease; `address` is where."""

    address: str


Rows = Mapping[str, Row]


class Conflict(Exception):
    """A row is not at the version that was expected. Nothing was changed: load again and decide again."""


class LeaseLost(Exception):
    """Somebody else owns the scope now. Nothing was changed: drop the machine."""


class MaybeCommitted(Exception):
    """The reply was lost, perhaps not the commit. Send it again under the same id."""


class CatalogUnavailable(Exception):
    """Nothing was changed. The message says what to do."""


class Catalog(Protocol):
    async def own(self, scope: Scope) -> Lease | OwnedBy: ...

    async def release(self, lease: Lease) -> None: ...

    async def load(self, scope: Scope) -> Rows:
        """All rows of one scope, never the world."""
        ...

    async def scopes(self, kind: str) -> Sequence[Scope]:
        """The scopes of that kind that have rows."""
        ...

    async def commit(self, id: CommitId, lease: Lease | None, changes: Sequence[Change]) -> Version:
        """Raises Conflict, LeaseLost, MaybeCommitted or CatalogUnavailable."""
        ...

    def feed(self, after: Version) -> AsyncIterator[Sequence[Changed]]:
        """What was committed without a lease after that version, in order of versions, then what is new as it comes.

        Each step gives whole commits: after a step whose last version is v, everything up to v has been told. A row
        that was written several times may be told only as it is last, one that is gone only as gone, and one that is
        long gone not at all: who wants the world loads the scope first. The iterator ends when the catalog is closed
        and raises CatalogUnavailable when it fails; `aclose()` of it gives it up early."""
        ...

    async def close(self) -> None: ...
