"""The SQLite catalog beyond the contract: what it costs, and what happens when the disk fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from riverlog.catalog.contract import CatalogUnavailable, Change, CommitId, Conflict, MaybeCommitted, Scope, Version
from riverlog.catalog.sqlite import SqliteCatalog
from riverlog.env.executor import ThreadExecutor

SCOPE = Scope("topics", "")


class BrokenConnection:
    """A connection whose statements that begin with `statement` fail as a disk would."""

    def __init__(self, connection: sqlite3.Connection, statement: str, code: int) -> None:
        self.connection = connection
        self.statement = statement
        self.code = code

    def execute(self, statement: str, *parameters: Any) -> Any:
        if statement.startswith(self.statement):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.code
            raise error
        return self.connection.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def put(key: str, value: bytes = b"", expected: int | None = None) -> Change:
    return Change(SCOPE, key, value, None if expected is None else Version(expected))


def commit_id(number: int) -> CommitId:
    return CommitId(number.to_bytes(16))


def run(path: Path, story: Callable[[SqliteCatalog, list[str]], Awaitable[None]]) -> None:
    """`story` gets an open catalog and the list that its failures go to."""

    async def whole() -> None:
        executor = ThreadExecutor("catalog")
        failures: list[str] = []
        catalog = await SqliteCatalog.open(str(path / "catalog.db"), executor, failures.append)
        try:
            await asyncio.wait_for(story(catalog, failures), 30)
        finally:
            await catalog.close()
            executor.close()

    asyncio.run(whole())


def test_every_commit_is_synced_before_its_answer(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        connection = catalog._database.connection
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    run(tmp_path, story)


def test_what_is_asked_while_a_commit_runs_shares_the_next_one(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        statements: list[str] = []
        catalog._database.connection.set_trace_callback(statements.append)
        await asyncio.gather(*(catalog.commit(commit_id(n), None, [put(f"{n}", b"", 0)]) for n in range(100)))
        assert statements.count("COMMIT") == 2

    run(tmp_path, story)


def test_reading_is_no_transaction(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        statements: list[str] = []
        catalog._database.connection.set_trace_callback(statements.append)
        await catalog.load(SCOPE)
        await catalog.scopes("topics")
        assert not [statement for statement in statements if statement.startswith("BEGIN")]

    run(tmp_path, story)


def test_a_conflict_refuses_only_its_own_commit_of_a_transaction(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        first = asyncio.gather(catalog.commit(commit_id(0), None, [put("a", b"0")]))
        outcomes = await asyncio.gather(
            catalog.commit(commit_id(1), None, [put("b", b"1")]),
            catalog.commit(commit_id(2), None, [put("c", b"2"), put("a", b"2", 0)]),
            catalog.commit(commit_id(3), None, [put("d", b"3")]),
            return_exceptions=True,
        )
        await first
        assert [type(outcome) for outcome in outcomes] == [int, Conflict, int]
        assert sorted(await catalog.load(SCOPE)) == ["a", "b", "d"]

    run(tmp_path, story)


def test_a_commit_that_sqlite_cannot_keep_refuses_only_itself(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        outcomes = await asyncio.gather(
            catalog.commit(commit_id(1), None, [put("a"), put("\ud800")]),
            catalog.commit(commit_id(2), None, [put("b")]),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], CatalogUnavailable)
        assert list(await catalog.load(SCOPE)) == ["b"]
        assert not failures

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("statement", "refusal"), [("COMMIT", MaybeCommitted), ("INSERT", CatalogUnavailable), ("BEGIN", CatalogUnavailable)]
)
def test_a_failed_write_ends_the_catalog_and_tells_its_owner_once(
    tmp_path: Path, statement: str, refusal: type[Exception]
) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        await catalog.commit(commit_id(0), None, [put("a", b"0")])
        feed = catalog.feed(Version(0))
        await anext(feed)
        database: Any = catalog._database
        database.connection = BrokenConnection(database.connection, statement, sqlite3.SQLITE_IOERR_FSYNC)
        outcomes = await asyncio.gather(
            catalog.commit(commit_id(1), None, [put("a", b"1")]), catalog.load(SCOPE), return_exceptions=True
        )
        assert isinstance(outcomes[0], refusal)
        for work in (catalog.load(SCOPE), catalog.commit(commit_id(1), None, []), catalog.own(SCOPE), anext(feed)):
            with pytest.raises(CatalogUnavailable, match="disk I/O error"):
                await work
        (message,) = failures
        assert "catalog.db" in message

    run(tmp_path, story)

    async def again(catalog: SqliteCatalog, failures: list[str]) -> None:
        assert (await catalog.load(SCOPE))["a"].value == b"0"

    run(tmp_path, again)


def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        connection = catalog._database.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(CatalogUnavailable, match="make room"):
            await catalog.commit(commit_id(1), None, [put("a", bytes(1_000_000))])
        version = await catalog.commit(commit_id(2), None, [put("b")])
        connection.execute(f"PRAGMA max_page_count = {pages + 2000}")
        assert await catalog.commit(commit_id(1), None, [put("a", bytes(1_000_000))]) == version + 1
        assert sorted(await catalog.load(SCOPE)) == ["a", "b"]
        assert not failures

    run(tmp_path, story)


@pytest.mark.parametrize("content", [b"this is not a database" * 1000, b"SQLite format 3\x00" + bytes(50)])
def test_a_file_that_is_no_catalog_is_refused_by_name_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(content)

    async def story() -> None:
        executor = ThreadExecutor("catalog")
        try:
            with pytest.raises(CatalogUnavailable, match=r"catalog\.db cannot be opened"):
                await SqliteCatalog.open(str(path), executor)
        finally:
            executor.close()

    asyncio.run(story())
    assert path.read_bytes() == content


def test_a_catalog_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    async def newer(catalog: SqliteCatalog, failures: list[str]) -> None:
        catalog._database.connection.execute("PRAGMA user_version = 99")

    run(tmp_path, newer)

    with pytest.raises(CatalogUnavailable, match="format 99"):
        asyncio.run(_open_and_close(tmp_path))


async def _open_and_close(path: Path) -> None:
    executor = ThreadExecutor("catalog")
    try:
        await (await SqliteCatalog.open(str(path / "catalog.db"), executor)).close()
    finally:
        executor.close()


def test_starts_are_counted_and_removed_rows_go_at_a_start(tmp_path: Path) -> None:
    async def first(catalog: SqliteCatalog, failures: list[str]) -> None:
        assert catalog.starts == 1
        await catalog.commit(commit_id(1), None, [put("a"), put("b")])
        await catalog.commit(commit_id(2), None, [Change(SCOPE, "a", None)])
        assert catalog._database.connection.execute("SELECT count(*) FROM rows").fetchone() == (2,)

    async def second(catalog: SqliteCatalog, failures: list[str]) -> None:
        assert catalog.starts == 2
        assert catalog._database.connection.execute("SELECT count(*) FROM rows").fetchone() == (1,)

    run(tmp_path, first)
    run(tmp_path, second)


def test_marks_of_removed_rows_do_not_pile_up(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        feed = catalog.feed(Version(0))
        highest = 0
        for number in range(60):
            await catalog.commit(commit_id(2 * number), None, [put(f"{n}") for n in range(100)])
            removals = [Change(SCOPE, f"{n}", None) for n in range(100)]
            version = await catalog.commit(commit_id(2 * number + 1), None, [*removals, put(f"other {number}")])
            await catalog.commit(
                commit_id(10_000 + number), None, [Change(SCOPE, f"{number}/{n}", None) for n in range(100)]
            )
            while (await anext(feed))[-1].version < version:
                pass
            (count,) = catalog._database.connection.execute(
                "SELECT count(*) FROM rows WHERE value IS NULL"
            ).fetchone()
            highest = max(highest, count)
        assert highest < 3000

    run(tmp_path, story)


def test_somebody_who_gives_up_does_not_undo_a_commit(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        asked = asyncio.ensure_future(catalog.commit(commit_id(1), None, [put("a")]))
        other = asyncio.ensure_future(catalog.commit(commit_id(2), None, [put("b")]))
        await catalog.own(SCOPE)
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn
        asked.cancel()
        await other
        assert sorted(await catalog.load(SCOPE)) == ["a", "b"]

    run(tmp_path, story)


def test_a_load_uses_no_scan_of_other_scopes(tmp_path: Path) -> None:
    async def story(catalog: SqliteCatalog, failures: list[str]) -> None:
        explain = catalog._database.connection.execute
        plans = [
            explain("EXPLAIN QUERY PLAN SELECT key FROM rows WHERE kind = '' AND name = '' AND value IS NOT NULL"),
            explain("EXPLAIN QUERY PLAN SELECT key FROM rows WHERE fed = 1 AND version > 3 ORDER BY version"),
            explain("EXPLAIN QUERY PLAN DELETE FROM rows WHERE value IS NULL"),
        ]
        for plan in plans:
            for row in plan.fetchall():
                assert "SCAN rows" not in row[3] or "USING INDEX" in row[3] or "USING COVERING INDEX" in row[3], row

    run(tmp_path, story)
