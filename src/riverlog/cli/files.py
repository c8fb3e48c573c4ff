"""`riverlog dump` and `riverlog verify`: looking at files of a data directory. They read and never write."""

from __future__ import annotations

import json as json_module

from riverlog.cli.errors import DONE, FAILED, WRONG_USE, CommandError
from riverlog.cli.output import print_json


def dump(file: str, records: bool, json: bool) -> int:
    """A line for each entry; exit 1 where one says that something is damaged."""
    from riverlog.storage.inspect import dump_values, text_of

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
    """Every CRC, every index, every offset; exit 1 with the places. What the next start puts right by itself is printed
    and is no failure."""
    from riverlog.storage.inspect import verify as find_problems

    try:
        problems = list(find_problems(directory))
    except ValueError as error:
        raise CommandError(str(error), WRONG_USE) from error
    failed = any(not problem.is_note for problem in problems)
    if json:
        print_json({"directory": directory, "sound": not failed, "problems": [one._asdict() for one in problems]})
    else:
        for problem in problems:
            print(problem)
        if not failed:
            print(f"{directory}: everything is as it was written")
    return FAILED if failed else DONE
