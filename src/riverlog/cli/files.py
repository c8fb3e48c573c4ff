"""`riverlog dump` and `riverlog verify`: looking at files of a data directory. They read and never write."""

from __future__ import annotations

import json as json_module
import os
from typing import TYPE_CHECKING, Final

from riverlog.cli.errors import DONE, FAILED, WRONG_USE, CommandError
from riverlog.cli.output import print_json

if TYPE_CHECKING:
    from riverlog.storage.inspect import Problem

CATALOG: Final = "catalog.db"


def dump(file: str, records: bool, json: bool) -> int:
    """A line for each entry; exit 1 where one says that something is damaged."""
    from riverlog.storage.inspect import dump_values, text_of

    if not os.path.exists(file):
        raise CommandError(f"{file}: there is no such file", FAILED)
    if os.path.isdir(file):
        raise CommandError(f"{file} is a directory: give one file of it, or `riverlog verify` the whole", WRONG_USE)
    if os.path.basename(file).startswith(CATALOG):
        raise CommandError(
            f"{file} belongs to a SQLite database: while the broker is stopped, `sqlite3 {CATALOG} .dump` reads it",
            WRONG_USE,
        )
    try:
        entries = dump_values(file, records=records)
    except ValueError as error:
        raise CommandError(str(error), WRONG_USE) from error
    damaged = False
    for entry in entries:
        damaged = damaged or entry["kind"] == "damage"
        print(json_module.dumps(entry, ensure_ascii=False) if json else text_of(entry))
    return FAILED if damaged else DONE


def verify(directory: str, json: bool) -> int:
    """Every CRC, every index, every offset, the catalog's pages; exit 1 with the places. What the next start puts right
    by itself is printed as a note and is no failure."""
    from riverlog.storage.inspect import verify as find_problems

    try:
        problems = list(find_problems(directory))
    except ValueError as error:
        raise CommandError(str(error), WRONG_USE) from error
    in_use = any(os.path.basename(problem.path) == "riverlog.lock" for problem in problems)
    problems += _catalog_problems(directory, in_use)
    failed = any(not problem.is_note for problem in problems)
    if json:
        print_json({"directory": directory, "sound": not failed, "problems": [one._asdict() for one in problems]})
    else:
        for problem in problems:
            print(problem)
        if not failed:
            print(f"{directory}: everything is as it was written")
    return FAILED if failed else DONE


def _catalog_problems(directory: str, in_use: bool) -> list[Problem]:
    """Of the catalog of a data directory: is it there, and is it a whole SQLite database. Where a broker writes meanwhile
    (`in_use`) what is read may be torn: a note."""
    from riverlog.catalog.inspect import catalog_defects
    from riverlog.storage.inspect import Problem

    path = os.path.join(directory, CATALOG)
    if os.path.exists(path):
        return [Problem(path, 0, f"is damaged: {what}", in_use) for what in catalog_defects(path)]
    if os.path.exists(os.path.join(directory, "meta.json")):
        return [Problem(path, 0, "is missing: the topics, configurations, groups and offsets are not known")]
    return []
