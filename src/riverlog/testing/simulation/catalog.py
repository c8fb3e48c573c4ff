"""A catalog for the simulated machine: rows that outlive its crashes, answered late, by a process that may be killed.

Invariants: calls are done in the order that they came, in groups, as SQLite's writer does them; what was answered is there after
a crash; of the group that was under way any number of first calls, so that one may be done of which nobody was told. Not here:
what a commit checks (`catalog/memory.py`), whose dials are turned through `CatalogPlace.rows`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from riverlog.catalog.contract import (
    CatalogUnavailable,
    Change,
    Changed,
    CommitId,
    Lease,
    OwnedBy,
    Rows,
    Scope,
    Version,
)
from riverlog.catalog.memory import MemoryCatalog
from riverlog.env.entropy import Entropy

T = TypeVar("T")

Work = Callable[[MemoryCatalog], Coroutine[Any, Any, Any]]


class Asked(NamedTuple):
    work: Work
    answer: asyncio.Future[Any]


class LastingRows(MemoryCatalog):
    """The rows of one process. `held`: the scopes whose lease somebody asked for."""

    def __init__(self, *, late: int = 0) -> None:
        super().__init__(late=late)
        self.held: set[Scope] = set()

    async def own(self, scope: Scope) -> Lease | OwnedBy:
        self.held.add(scope)
        return await super().own(scope)

    def deafen(self) -> None:
        """Who followed is gone with the process."""
        self._feeds.followers.clear()


class CatalogPlace:
    """What lasts. One process at a time opens it."""

    def __init__(self) -> None:
        self.rows = LastingRows()
        self.under_way: list[Asked] = []

    def open(self, entropy: Entropy, note: Callable[[str], None] = lambda what: None) -> SimulatedCatalog:
        self.rows = self.rows.reopened()
        self.under_way = []
        return SimulatedCatalog(self, entropy, note)

    def crash(self, entropy: Entropy) -> None:
        """The process is gone."""
        group, self.under_way = self.under_way, []
        self.rows.deafen()
        done = entropy.below(len(group) + 1) if group else 0
        for work, _ in group[:done]:
            outcome(work(self.rows))


class SimulatedCatalog:
    """One process's catalog. Its delays are of the running loop."""

    def __init__(self, place: CatalogPlace, entropy: Entropy, note: Callable[[str], None]) -> None:
        self._place = place
        self._rows = place.rows
        self._entropy = entropy
        self._note = note
        self._asked: list[Asked] = []
        self._busy = False
        self._closed = False
        self._idle: asyncio.Future[None] | None = None

    async def own(self, scope: Scope) -> Lease | OwnedBy:
        return await self._do(lambda rows: rows.own(scope))

    async def release(self, lease: Lease) -> None:
        await self._do(lambda rows: rows.release(lease))

    async def load(self, scope: Scope) -> Rows:
        return await self._do(lambda rows: rows.load(scope))

    async def scopes(self, kind: str) -> Sequence[Scope]:
        return await self._do(lambda rows: rows.scopes(kind))

    async def commit(self, id: CommitId, lease: Lease | None, changes: Sequence[Change]) -> Version:
        return await self._do(lambda rows: rows.commit(id, lease, changes))

    def feed(self, after: Version) -> AsyncIterator[Sequence[Changed]]:
        return self._rows.feed(after)

    async def close(self) -> None:
        """Does what was asked before."""
        self._closed = True
        if self._busy:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
        await self._rows.close()

    async def _do(self, work: Callable[[MemoryCatalog], Coroutine[Any, Any, T]]) -> T:
        if self._closed:
            raise CatalogUnavailable("the catalog is closed")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.append(Asked(work, answer))
        self._begin()
        return await answer

    def _begin(self) -> None:
        if self._busy:
            return
        if self._asked:
            self._busy = True
            asyncio.get_running_loop().call_later(self._delay_s(), self._write)
        elif self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _delay_s(self) -> float:
        """Mostly tens of microseconds, at times a slow disk."""
        slow = not self._entropy.below(20)
        return self._entropy.below(50_000 if slow else 400) / 1_000_000

    def _write(self) -> None:
        """A group begins: all that was asked by now."""
        self._place.under_way, self._asked = self._asked, []
        asyncio.get_running_loop().call_later(self._delay_s(), self._sync)

    def _sync(self) -> None:
        group, self._place.under_way = self._place.under_way, []
        answers = [(outcome(one.work(self._rows)), one.answer) for one in group]
        self._note(f"catalog {len(group)}")
        asyncio.get_running_loop().call_later(self._entropy.below(200) / 1_000_000, self._tell, answers)

    def _tell(self, answers: Sequence[tuple[Any, asyncio.Future[Any]]]) -> None:
        self._busy = False
        for found, answer in answers:
            if answer.done():
                continue  # who asked went away
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)
        self._begin()


def outcome(work: Coroutine[Any, Any, T]) -> T | Exception:
    """Of work that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        found: T = stop.value
        return found
    except Exception as error:
        return error
    raise AssertionError("the rows were not answered at once")
