"""What a group's machine wants done.

Whoever runs the machine does the effects of a step in order, and answers no `Reply`, of reads too, before every
`Commit` that was asked for earlier is durable. A commit that fails drops the machine: it is loaded again from its rows,
so no outcome has to come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from riverlog.state.groups.commands import Result, Token


class Reply(NamedTuple):
    token: Token
    result: Result


class Commit(NamedTuple):
    """Rows of the group's scope: key -> value, None removes."""

    rows: Mapping[str, bytes | None]


class Schedule(NamedTuple):
    """Send a `Tick` at that monotonic time, instead of at the one asked for before; None: never."""

    deadline_ms: int | None


Effect: TypeAlias = Reply | Commit | Schedule
