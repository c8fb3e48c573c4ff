"""The `riverlog` command. Light: what a command needs is imported when it runs.

`--version` and `serve` are recognised here, because a server should be up before a parser of every command is: a plain
`serve` line is read by `cli/serve.py`, anything else (and every mistake) by the parser of all commands in `cli/app.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 it did not work, 2 the command line or a setting was wrong."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # started with it closed, as in `riverlog topic list >&-`
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it lasts as long as the process
    raise SystemExit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """The exit code of the command that `tokens` are."""
    if list(tokens) == ["--version"]:
        from riverlog import __version__

        print(f"riverlog {__version__}")
        return 0
    if tokens[:1] == ["serve"]:
        from riverlog.cli.serve import quick_arguments, serve

        if (arguments := quick_arguments(tokens[1:])) is not None:
            from riverlog.cli.errors import guarded

            return guarded(lambda: serve(arguments))
    from riverlog.cli.app import run_command

    return run_command(tokens)
