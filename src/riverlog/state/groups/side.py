"""What both kinds of membership have in common: a group is of one side at a time, classic or of the consumer protocol.

A side owns members, their rows and their time; the group (`group.py`) owns the offsets and asks its side who may.
Within a step the side puts its effects into the group's list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from riverlog.base.errors import ErrorKind
from riverlog.env.clock import Now
from riverlog.state.groups.commands import (
    CommitOffsets,
    CommitPending,
    CommittedOffset,
    FetchOffsets,
    GroupSettings,
    GroupState,
    Result,
    Token,
)
from riverlog.state.groups.effects import Commit, Effect, Reply
from riverlog.state.groups.pending import RowChanges


class Side(ABC):
    group_type: ClassVar[str]  # as Kafka's tools print it

    def __init__(self, group_id: str, settings: GroupSettings) -> None:
        self.group_id = group_id
        self.settings = settings
        self.deadline_ms: int | None = None  # monotonic; when the next `Tick` is due
        self._now = Now(0, 0)
        self._effects: list[Effect] = []

    def begin(self, now: Now, effects: list[Effect]) -> None:
        """A step begins; what it asks for goes there."""
        self._now = now
        self._effects = effects

    # ------------------------------------------------------------------ what a group asks

    @property
    @abstractmethod
    def current_state(self) -> GroupState: ...

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether there is anything: a member, an id that was given out, a row."""

    @property
    @abstractmethod
    def member_count(self) -> int: ...

    @property
    @abstractmethod
    def has_newcomers(self) -> bool:
        """Whether ids were given out whose members have not come yet."""

    @abstractmethod
    def waiting(self) -> list[Token]:
        """The requests that wait for an answer."""

    @abstractmethod
    def tick(self) -> None: ...

    def configure(self, settings: GroupSettings) -> None:
        """What runs already keeps the times that it began with."""
        self.settings = settings

    @abstractmethod
    def forget(self) -> RowChanges:
        """Nobody is there: takes the rows away."""

    @abstractmethod
    def commit_error(self, command: CommitOffsets) -> ErrorKind | None: ...

    @abstractmethod
    def pending_error(self, command: CommitPending) -> ErrorKind | None: ...

    @abstractmethod
    def fetch_error(self, command: FetchOffsets) -> ErrorKind | None: ...

    @abstractmethod
    def offsets_deletable(self) -> bool:
        """Whether offsets of topics that nobody subscribes to may be deleted now."""

    @abstractmethod
    def is_subscribed(self, topic: str) -> bool: ...

    @abstractmethod
    def idle_since_ms(self, topic: str, committed: CommittedOffset) -> int | None:
        """Since when nobody needs the offset, wall time; None: somebody does."""

    # ------------------------------------------------------------------ what sides do

    def _reply(self, token: Token, result: Result) -> None:
        self._effects.append(Reply(token, result))

    def _write(self, rows: Mapping[str, bytes | None]) -> None:
        if rows:
            self._effects.append(Commit(rows))

    def _wake_at(self, deadline_ms: int) -> None:
        if self.deadline_ms is None or deadline_ms < self.deadline_ms:
            self.deadline_ms = deadline_ms
