"""One run of the catalog's thread: commits that are written together, and what refuses only one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from riverlog.catalog.contract import CatalogUnavailable, Change, CommitId, Conflict, Row, Scope, Version
from riverlog.catalog.sqlite_database import CommitWork, Database, LoadWork, Work, rows_per_statement

GROUP, OTHER = Scope("group", "g"), Scope("group", "h")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(str(tmp_path / "catalog.db"))
    opened.open()
    yield opened
    opened.close()


def commit(number: int, *changes: Change, fed: bool = False) -> CommitWork:
    return CommitWork(CommitId(number.to_bytes(16)), changes, fed)


def put(key: str, value: bytes | None, scope: Scope = GROUP, expected: int | None = None) -> Change:
    return Change(scope, key, value, None if expected is None else Version(expected))


def rows_of(database: Database, scope: Scope = GROUP) -> dict[str, Row]:
    ((rows,), _) = database.run([LoadWork(scope)], Version(0))
    return dict(rows)


def statements_of(database: Database, works: Sequence[CommitWork]) -> list[str]:
    statements: list[str] = []
    database.connection.set_trace_callback(statements.append)
    database.run(works, Version(0))
    database.connection.set_trace_callback(None)
    return statements


def test_commits_of_owned_scopes_are_written_many_rows_a_statement(database: Database) -> None:
    works = [commit(n, *(put(f"{n}/{i}", b"v") for i in range(10))) for n in range(40)]
    statements = statements_of(database, works)
    inserts = [statement for statement in statements if statement.startswith("INSERT")]
    assert len(inserts) == 400 // rows_per_statement[0] + 400 % rows_per_statement[0] // rows_per_statement[1]
    assert sum(statement.startswith("SAVEPOINT") for statement in statements) == 1
    assert len(rows_of(database)) == 400


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 127, 128, 129, 300])
def test_any_number_of_rows(database: Database, count: int) -> None:
    database.run([commit(n, put(f"{n}", str(n).encode())) for n in range(count)], Version(0))
    rows = rows_of(database)
    assert {key: row.value for key, row in rows.items()} == {str(n): str(n).encode() for n in range(count)}
    assert sorted(row.version for row in rows.values()) == list(range(1, count + 1))


def test_each_commit_has_its_version_and_the_last_one_of_a_row_wins(database: Database) -> None:
    works = [
        commit(1, put("a", b"1"), put("b", b"1")),
        commit(2, put("a", b"2"), put("a", b"2", OTHER)),
        commit(3, put("b", None), put("c", b"3")),
        commit(2, put("a", b"sent again")),
    ]
    outcomes, told = database.run(works, Version(0))
    assert outcomes == [1, 2, 3, 2]
    assert told == []
    assert rows_of(database) == {"a": Row(b"2", Version(2)), "c": Row(b"3", Version(3))}
    assert rows_of(database, OTHER) == {"a": Row(b"2", Version(2))}
    again, _ = database.run([commit(3, put("c", None)), commit(4, put("b", b"4"))], Version(0))
    assert again == [3, 4]
    assert rows_of(database)["c"] == Row(b"3", Version(3))


def test_a_row_that_is_removed_and_made_again_is_there(database: Database) -> None:
    database.run([commit(1, put("a", b"1")), commit(2, put("a", None)), commit(3, put("a", b"3"))], Version(0))
    assert rows_of(database) == {"a": Row(b"3", Version(3))}


def test_one_that_cannot_be_kept_refuses_only_itself(database: Database) -> None:
    works = [commit(1, put("a", b"1")), commit(2, put("b", b"2"), put("\ud800", b"2")), commit(3, put("c", b"3"))]
    outcomes, _ = database.run(works, Version(0))
    assert [type(outcome) for outcome in outcomes] == [int, CatalogUnavailable, int]
    assert sorted(rows_of(database)) == ["a", "c"]
    outcomes, _ = database.run([commit(2, put("b", b"2")), commit(4, put("d", b"4"))], Version(0))
    assert outcomes == [3, 4]  # the refused one was not done: its id is free


def test_the_order_of_what_was_asked_holds(database: Database) -> None:
    works: list[Work] = [
        commit(1, put("a", b"1")),
        commit(2, put("b", b"2")),
        LoadWork(GROUP),
        commit(3, put("a", b"3", expected=1)),
        commit(4, put("a", b"4")),
        commit(5, put("a", b"5", expected=1)),
        commit(6, put("b", b"6")),
    ]
    (*before, loaded, third, fourth, refused, last), _ = database.run(works, Version(0))
    assert {key: row.value for key, row in loaded.items()} == {"a": b"1", "b": b"2"}
    assert (*before, third, fourth, last) == (1, 2, 3, 4, 5)
    assert isinstance(refused, Conflict)
    assert {key: row.value for key, row in rows_of(database).items()} == {"a": b"4", "b": b"6"}


def test_what_is_fed_is_told_in_order(database: Database) -> None:
    topics = Scope("topics", "")
    works = [commit(1, put("a", b"1")), commit(2, put("t", b"2", topics), fed=True), commit(3, put("b", b"3"))]
    outcomes, told = database.run(works, Version(0))
    assert outcomes == [1, 2, 3]
    assert [(change.version, change.key) for change in told] == [(2, "t")]
