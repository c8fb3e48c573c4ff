"""What the machine of a transactional id wants done.

Whoever runs the machine does the effects of a step in order, and answers no `Reply` before every `Commit` that was asked
for earlier is durable; `WriteMarkers` too is begun only then (it makes a decision visible). A commit that fails drops the
machine: it is loaded again from its rows, and `load` asks anew for what has to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from riverlog.base.ids import PartitionId
from riverlog.state.transactions.commands import Number, Producer, Result, Token


class Reply(NamedTuple):
    token: Token
    result: Result


class Commit(NamedTuple):
    """Rows of the transactional id's scope: key -> value, None removes.

    `lazy`: nobody waits for it; it may go with the next commit that somebody waits for, or soon by itself."""

    rows: Mapping[str, bytes | None]
    lazy: bool = False


class MakeDurable(NamedTuple):
    """Wait until what was appended to these partitions before now is durable, then tell `Settled`."""

    number: Number
    partitions: Sequence[PartitionId]


class WriteMarkers(NamedTuple):
    """Write the decision into the partitions and tell the groups, again and again until it is done, then tell
    `MarkersWritten` (once, or part by part). `producer` is what the markers carry."""

    number: Number
    producer: Producer
    committed: bool
    partitions: Sequence[PartitionId]
    groups: Sequence[str]


class Schedule(NamedTuple):
    """Send a `Tick` at that monotonic time, instead of at the one asked for before; None: never."""

    deadline_ms: int | None


Effect: TypeAlias = Reply | Commit | MakeDurable | WriteMarkers | Schedule
