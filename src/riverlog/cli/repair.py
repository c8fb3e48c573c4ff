"""`riverlog repair`: says what is damaged in a stopped directory, and, when it is told how, does something about it."""

from __future__ import annotations

import json as json_module
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

from riverlog.cli.errors import DONE, FAILED, WRONG_USE, CommandError
from riverlog.cli.output import print_json

if TYPE_CHECKING:
    from riverlog.base.ids import TopicId
    from riverlog.storage.repair import Order


def repair(
    directory: str, topic: str | None, partition: int | None, truncate: bool, skip: bool, dry_run: bool, json: bool
) -> int:
    """Exit 0: nothing is damaged, or what was is repaired; 1: something is damaged and nothing was done."""
    from riverlog.env.clock import SystemClock
    from riverlog.env.files import RealFiles
    from riverlog.storage import repair as repairs

    directory = directory.rstrip("/") or "/"
    if truncate and skip:
        raise CommandError("--truncate and --skip exclude one another: give one", WRONG_USE)
    if partition is not None and topic is None:
        raise CommandError("--partition needs a --topic", WRONG_USE)
    if not os.path.isfile(os.path.join(directory, "meta.json")):
        raise CommandError(f"{directory} is no data directory: it has no meta.json", WRONG_USE)
    topic_ids = _topic_ids(directory)
    if topic is not None and topic_ids and topic not in topic_ids:
        raise CommandError(f"{directory} has no topic {topic}; it has {', '.join(sorted(topic_ids))}", WRONG_USE)
    asked: Order | None = repairs.Order.TRUNCATE if truncate else repairs.Order.SKIP if skip else None
    losses = repairs.repair(
        RealFiles(),
        directory,
        None if dry_run else asked,
        now_ms=SystemClock().now_ms(),
        topic=topic,
        partition=partition,
        topic_ids=topic_ids,
    )
    done = asked is not None and not dry_run
    if json:
        print_json({"directory": directory, "done": done, "losses": [one._asdict() for one in losses]})
    else:
        for one in losses:
            print(one if done else f"would be dropped or made again: {one}")
        if not losses:
            print(f"{directory}: nothing to repair")
        elif not done:
            print("nothing was done; --skip drops what is damaged, --truncate that and everything behind it")
    return DONE if done or not losses else FAILED


def _topic_ids(directory: str) -> dict[str, TopicId]:
    """Of the catalog, as far as it can be read."""
    from riverlog.base.ids import TopicId

    path = os.path.join(directory, "catalog.db")
    found: dict[str, TopicId] = {}
    if not os.path.exists(path):
        return found
    with tempfile.TemporaryDirectory(prefix="riverlog-repair-") as place:
        for name in ("catalog.db", "catalog.db-wal"):
            if os.path.exists(source := os.path.join(directory, name)):
                shutil.copyfile(source, os.path.join(place, name))
        try:
            with closing(sqlite3.connect(os.path.join(place, "catalog.db"))) as database:
                rows = database.execute(
                    "SELECT key, value FROM rows WHERE kind = 'topics' AND key LIKE 'topic/%' AND value IS NOT NULL"
                )
                for key, value in rows:
                    facts = json_module.loads(value)
                    if not facts.get("deleting"):
                        found[str(facts["name"])] = TopicId(bytes.fromhex(str(key).removeprefix("topic/")))
        except (sqlite3.Error, ValueError, KeyError):
            pass
    return found
