-- The catalog of one directory, format 1. See docs/formats/catalog.md. Every statement may run again.

CREATE TABLE IF NOT EXISTS meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- value NULL: the row is gone; kept for a while, at most until the next start, for those who follow the feed.
-- fed 1: committed without a lease, so the feed tells it.
CREATE TABLE IF NOT EXISTS rows (
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    key     TEXT NOT NULL,
    value   BLOB,
    version INTEGER NOT NULL,
    fed     INTEGER NOT NULL,
    PRIMARY KEY (kind, name, key)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS rows_fed ON rows (version) WHERE fed = 1;
CREATE INDEX IF NOT EXISTS rows_gone ON rows (version) WHERE value IS NULL;
