"""`riverlog serve`: from the command line to the server's settings. The server itself is `riverlog.server.app`.

Invariant: `quick_arguments` reads a line exactly as the parser of all commands would, or leaves it to that one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from riverlog.cli.errors import WRONG_USE, CommandError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArguments:
    """What stands on the line, as text; None: it does not."""

    data_dir: str | None = None
    kafka: str | None = None
    advertise: str | None = None
    http: str | None = None
    config: str | None = None
    set: tuple[str, ...] = ()
    insecure: bool = False
    json: bool = False


_WITH_VALUE: Final = {
    "--data-dir": "data_dir",
    "--kafka": "kafka",
    "--advertise": "advertise",
    "--http": "http",
    "--config": "config",
}


_FLAGS: Final = {"--insecure": "insecure", "--json": "json"}


def quick_arguments(tokens: Sequence[str]) -> ServeArguments | None:
    """The arguments of a plain line: known options, each once (`--set` as often as needed), values that do not begin
    with a dash. None: it is not that plain."""
    arguments = ServeArguments()
    seen: set[str] = set()
    rest = iter(tokens)
    for token in rest:
        option, equals, value = token.partition("=")
        if token in _FLAGS and token not in seen:
            arguments = replace(arguments, **{_FLAGS[token]: True})  # type: ignore[arg-type]  # all are flags
        elif option in _WITH_VALUE or option == "--set":
            value = value if equals else next(rest, "")
            if not value or value.startswith("-") or option in seen:
                return None
            if option == "--set":
                arguments = replace(arguments, set=(*arguments.set, value))
                continue
            arguments = replace(arguments, **{_WITH_VALUE[option]: value})  # type: ignore[arg-type]  # all are text
        else:
            return None
        seen.add(option)
    return arguments


def overrides(arguments: ServeArguments) -> dict[str, str]:
    """The options as settings; an option wins over a `--set` of the same. Raises CommandError."""
    settings = {}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise CommandError(f"--set {text!r}: give --set name=value", WRONG_USE)
        settings[name.strip()] = value
    if arguments.data_dir is not None:
        settings.pop("log.dir", None)
        settings["log.dirs"] = arguments.data_dir
    if arguments.kafka is not None:
        settings["listeners"] = f"PLAINTEXT://{arguments.kafka}"
    if arguments.advertise is not None:
        settings["advertised.listeners"] = f"PLAINTEXT://{arguments.advertise}"
    if arguments.http is not None:
        settings["riverlog.http.listener"] = arguments.http
    if arguments.insecure:
        settings["riverlog.insecure"] = "true"
    return settings


def serve(arguments: ServeArguments) -> int:
    """Serves until SIGTERM or Ctrl-C; gives the exit code. Raises CommandError and SettingsError before it begins."""
    refuse_where_it_cannot_run(sys.platform, __debug__)
    from riverlog.server.settings import load

    settings = load(arguments.config, overrides(arguments))
    from riverlog.server.app import run

    return run(settings, json=arguments.json)


def refuse_where_it_cannot_run(platform: str, debug: bool) -> None:
    """Raises CommandError on Windows, and where assertions are switched off."""
    if platform == "win32":
        raise CommandError("riverlog does not run on Windows: run it in WSL (Windows Subsystem for Linux)")
    if not debug:
        raise CommandError(
            "python -O and PYTHONOPTIMIZE switch off the checks that guard your data: start riverlog without them"
        )
