"""Both catalogs do the same on any history of commits, and what a follower of the feed adds up is what a load gives."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.catalog.contract import Catalog, Change, CommitId, Conflict, Lease, LeaseLost, Scope, Version
from riverlog.catalog.memory import MemoryCatalog
from riverlog.catalog.sqlite import SqliteCatalog
from riverlog.env.executor import ThreadExecutor

TOPICS = Scope("topics", "")
GROUPS = (Scope("group", "a"), Scope("group", "b"))

keys = st.sampled_from(["x", "y", "z"])
values = st.one_of(st.none(), st.binary(max_size=3))
guesses = st.one_of(st.none(), st.integers(0, 3))  # how old the version that is expected is; None: any
commits = st.tuples(
    st.integers(0, 30),  # commit id, so that some are sent again
    st.sampled_from([None, *GROUPS]),  # whose lease
    st.lists(st.tuples(keys, values, guesses), max_size=3),
)
steps = st.lists(st.one_of(st.lists(commits, min_size=1, max_size=4), st.just("restart")), max_size=12)


async def played(catalog: Catalog, reopen: Callable[[Any], Awaitable[Catalog]], history: Sequence[Any]) -> list[object]:
    """Everything that can be seen of a history: outcomes, rows, and what the feed added up to."""
    seen: list[object] = []
    versions = [Version(0)]
    leases: dict[Scope, Lease] = {}
    for step in history:
        if step == "restart":
            await catalog.close()
            catalog = await reopen(catalog)
            continue
        asked = []
        for number, owner, changes in step:
            lease = None
            if owner is not None:
                if owner not in leases:
                    held = await catalog.own(owner)
                    assert isinstance(held, Lease)
                    leases[owner] = held
                lease = leases[owner]
            rows = [
                Change(owner or TOPICS, key, value, None if age is None else versions[-1 - min(age, len(versions) - 1)])
                for key, value, age in changes
            ]
            asked.append(catalog.commit(CommitId(number.to_bytes(16)), lease, rows))
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, int):
                versions.append(Version(outcome))
                seen.append(outcome)
            else:
                assert isinstance(outcome, Conflict | LeaseLost), outcome
                seen.append(type(outcome))
                leases.clear()
    added_up: dict[str, bytes] = {}
    marker = await catalog.commit(CommitId(b"the end"), None, [Change(TOPICS, "end", b"")])
    async for changes in catalog.feed(Version(0)):
        for change in changes:
            if change.value is None:
                added_up.pop(change.key, None)
            else:
                added_up[change.key] = change.value
        if changes[-1].version >= marker:
            break
    rows_of = {scope: dict(await catalog.load(scope)) for scope in (TOPICS, *GROUPS)}
    assert added_up == {key: row.value for key, row in rows_of[TOPICS].items()}
    seen.append(rows_of)
    seen.append(await catalog.scopes("group"))
    await catalog.close()
    return seen


@settings(max_examples=60, deadline=None, derandomize=True)
@given(history=steps)
def test_memory_and_sqlite_do_the_same(history: list[object]) -> None:
    async def in_memory() -> list[object]:
        async def reopen(catalog: MemoryCatalog) -> MemoryCatalog:
            return catalog.reopened()

        return await played(MemoryCatalog(), reopen, history)

    async def on_disk() -> list[object]:
        with tempfile.TemporaryDirectory() as directory:
            executor = ThreadExecutor("catalog")
            path = f"{directory}/catalog.db"

            async def reopen(catalog: SqliteCatalog) -> SqliteCatalog:
                return await SqliteCatalog.open(path, executor)

            try:
                return await played(await SqliteCatalog.open(path, executor), reopen, history)
            finally:
                executor.close()

    assert asyncio.run(in_memory()) == asyncio.run(on_disk())
