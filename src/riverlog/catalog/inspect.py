"""Whether the catalog of a stopped directory is a whole SQLite database. Reads, never writes into the directory.

What it finds: pages that are no pages, trees and indexes that do not fit together, rows that are out of order or break a
constraint. What it cannot see: a flipped bit inside a value; SQLite keeps no checksum of its pages. See
docs/guide/durability.md.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing


def catalog_defects(path: str) -> list[str]:
    """What is wrong with the catalog at `path`, with what stands in its WAL. A copy is looked at, because SQLite may write beside
    what it opens. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="riverlog-verify-") as place:
        copy = os.path.join(place, "catalog.db")
        shutil.copyfile(path, copy)
        if os.path.exists(f"{path}-wal"):
            shutil.copyfile(f"{path}-wal", f"{copy}-wal")
        try:
            with closing(sqlite3.connect(copy)) as database:
                found = [str(row[0]) for row in database.execute("PRAGMA integrity_check")]
                database.execute("SELECT count(*) FROM rows").fetchone()
        except sqlite3.Error as error:
            found = [str(error)]
    return [] if found == ["ok"] else found
