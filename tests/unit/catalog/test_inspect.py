"""Whether a catalog is a whole database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from riverlog.catalog.inspect import catalog_defects


def database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE rows (kind TEXT NOT NULL, name TEXT, PRIMARY KEY (kind, name)) STRICT")
        made.executemany("INSERT INTO rows VALUES (?, ?)", [("topic", f"name-{at}" * 20) for at in range(500)])
        made.commit()


def test_a_whole_database_has_no_defects_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    database(path)
    before = path.read_bytes()
    assert catalog_defects(str(path)) == []
    assert [one.name for one in tmp_path.iterdir()] == ["catalog.db"]
    assert path.read_bytes() == before


def test_what_stands_in_the_wal_counts(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    database(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("ALTER TABLE rows RENAME TO others")
        other.commit()
        assert catalog_defects(str(path)) == ["no such table: rows"]


def test_an_index_that_lacks_a_row_and_a_page_that_is_none_are_found(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    database(path)
    with closing(sqlite3.connect(path)) as made:
        page = made.execute("PRAGMA page_size").fetchone()[0]
        root = made.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index'").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * page + 3] ^= 1  # the count of its cells
    path.write_bytes(content)
    assert catalog_defects(str(path)) != []
    path.write_bytes(b"no database" * 100)
    assert catalog_defects(str(path)) == ["file is not a database"]
