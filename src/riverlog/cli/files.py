"""`riverlog dump` and `riverlog verify`: looking at files of a data directory. They read and never write."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from riverlog.cli.errors import DONE, FAILED, CommandError
from riverlog.cli.output import print_json


def dump(file: str, records: bool, json: bool) -> int:
    """A line for each entry; exit 1 where one says that something is damaged."""
    from riverlog.storage.inspect import dump_values, text_of

    damaged = False
    try:
        for entry in dump_values(file, records=records):
            damaged = damaged or entry["kind"] == "damage"
            print(json_module.dumps(entry, ensure_ascii=False) if json else text_of(entry))
    except ValueError as error:
        raise CommandError(str(error)) from error
    return FAILED if damaged else DONE


def verify(directory: str, json: bool) -> int:
    """Every CRC, every index, every offset; exit 1 with the places."""
    from riverlog.storage.inspect import verify as find_problems

    if not Path(directory).is_dir():
        raise CommandError(f"{directory} is no directory: give a data directory")
    problems = list(find_problems(directory))
    if json:
        print_json({"directory": directory, "problems": [problem._asdict() for problem in problems]})
    elif problems:
        for problem in problems:
            print(problem)
    else:
        print(f"{directory}: everything is as it was written")
    return FAILED if problems else DONE
