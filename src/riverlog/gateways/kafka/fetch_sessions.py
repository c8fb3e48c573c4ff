"""Incremental fetch sessions (KIP-227): the broker remembers what a client reads, and answers only what changed.

Invariant: a session's epoch rises by one with each request; any other epoch is refused, so a lost answer is never skipped.
Pure; one cache a broker, the least recently used session goes when it is full.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError

INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1


class Wanted(NamedTuple):
    """One partition as a client asks for it. `topic` is its name up to version 12 of Fetch, its id from 13 on."""

    topic: str | bytes
    partition: int
    leader_epoch: int
    offset: int
    last_fetched_epoch: int
    bytes_max: int


class Told(NamedTuple):
    """What a client was last told of a partition."""

    high_watermark: int
    log_start_offset: int


UNTOLD: Final = Told(-1, -1)


class FetchSession:
    """`wanted` is in the order of service: who got data goes to the end, so that nobody starves."""

    __slots__ = ("epoch", "id", "told", "wanted")

    def __init__(self, session_id: int) -> None:
        self.id = session_id
        self.epoch = 1
        self.wanted: OrderedDict[tuple[str | bytes, int], Wanted] = OrderedDict()
        self.told: dict[tuple[str | bytes, int], Told] = {}

    def update(self, wanted: Iterable[Wanted], forgotten: Iterable[tuple[str | bytes, int]]) -> None:
        for one in wanted:
            self.wanted[one.topic, one.partition] = one
        for key in forgotten:
            self.wanted.pop(key, None)
            self.told.pop(key, None)

    def changed(self, key: tuple[str | bytes, int], told: Told, size: int, failed: bool) -> bool:
        """Is there something to say of that partition? Remembers what will be said."""
        before = self.told.get(key, UNTOLD)
        if failed:
            self.told.pop(key, None)  # so that it is told again when it is well
            return True
        self.told[key] = told
        if size:
            self.wanted.move_to_end(key)
            return True
        return told != before


class FetchSessions:
    def __init__(self, sessions_max: int, random_below: Callable[[int], int]) -> None:
        self.sessions_max = sessions_max
        self._random_below = random_below
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> FetchSession:
        session_id = 0
        while session_id == 0 or session_id in self._sessions:
            session_id = 1 + self._random_below(2**31 - 2)
        session = FetchSession(session_id)
        if self.sessions_max <= 0:
            session.id = 0
            return session
        while len(self._sessions) >= self.sessions_max:
            self._sessions.popitem(last=False)
            self.evicted += 1
        self._sessions[session_id] = session
        return session

    def resume(self, session_id: int, epoch: int) -> FetchSession:
        """The session, its epoch moved on. Raises FETCH_SESSION_NOT_FOUND or INVALID_FETCH_SESSION_EPOCH."""
        session = self._sessions.get(session_id)
        if session is None:
            raise RiverlogError(
                ErrorKind.FETCH_SESSION_NOT_FOUND, f"fetch session {session_id} is not known; begin a new one"
            )
        if session.epoch != epoch:
            raise RiverlogError(
                ErrorKind.INVALID_FETCH_SESSION_EPOCH,
                f"fetch session {session_id} is at epoch {session.epoch}, not {epoch}",
            )
        session.epoch = session.epoch + 1 if session.epoch < 2**31 - 1 else 1
        self._sessions.move_to_end(session_id)
        return session

    def close(self, session_id: int) -> None:
        self._sessions.pop(session_id, None)
