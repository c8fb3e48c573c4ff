"""Options that many commands have, and how an option is declared. Not here: what they mean, which is `app.py`'s commands."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from riverlog.cli.errors import WRONG_USE, CommandError

Bootstrap = Annotated[
    str,
    Parameter(name=["--bootstrap-server", "-b"], env_var="RIVERLOG_BOOTSTRAP", help="The broker, HOST:PORT."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON for programs.")]


def option(*names: str, help: str, **more: Any) -> Parameter:
    return Parameter(name=list(names), help=help, negative="", show_default=False, **more)


def some(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """Raises CommandError where nothing was named."""
    if not names:
        raise CommandError(f"name at least one {what}", WRONG_USE)
    return names
