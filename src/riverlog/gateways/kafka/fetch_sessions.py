"""Incremental fetch sessions (KIP-227): the broker remembers what a client reads, and answers only what changed.

Invariant: a session's epoch rises by one with each request; any other epoch is refused, so a lost answer is never skipped.
Pure; one cache a broker. It is full with so many sessions, or so many partitions in all of them: the least recently used
sessions go first, and a client whose session does not fit gets none (id 0), which clients take as full fetches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.limits import fetch_session_partitions_max

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
    def __init__(
        self,
        sessions_max: int,
        random_below: Callable[[int], int],
        partitions_max: int = fetch_session_partitions_max,
    ) -> None:
        self.sessions_max = sessions_max
        self.partitions_max = partitions_max
        self.partitions = 0  # of all sessions
        self._random_below = random_below
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, wanted: Sequence[Wanted] = ()) -> FetchSession:
        """A session that remembers `wanted`. Its id is 0 where it is not kept: the answer is then a full one."""
        session_id = 0
        while session_id == 0 or session_id in self._sessions:
            session_id = 1 + self._random_below(2**31 - 2)
        session = FetchSession(session_id)
        session.update(wanted, ())
        if self.sessions_max <= 0 or len(session.wanted) > self.partitions_max:
            session.id = 0
            return session
        while len(self._sessions) >= self.sessions_max:
            self._evict()
        self._sessions[session_id] = session
        self.partitions += len(session.wanted)
        self._make_room(session)
        return session

    def update(
        self, session: FetchSession, wanted: Iterable[Wanted], forgotten: Iterable[tuple[str | bytes, int]]
    ) -> None:
        """What a client changed of its session. Raises FETCH_SESSION_NOT_FOUND where it is too large now: it is dropped, and
        the client begins anew."""
        before = len(session.wanted)
        session.update(wanted, forgotten)
        self.partitions += len(session.wanted) - before
        if len(session.wanted) > self.partitions_max:
            self.close(session.id)
            self.evicted += 1
            raise RiverlogError(
                ErrorKind.FETCH_SESSION_NOT_FOUND,
                f"fetch session {session.id} would have {len(session.wanted)} partitions, more than {self.partitions_max}: "
                "read them by full fetches",
            )
        self._make_room(session)

    def _make_room(self, session: FetchSession) -> None:
        """Others go, from the least recently used on; `session` was used just now, so it is the last."""
        while self.partitions > self.partitions_max and len(self._sessions) > 1:
            self._evict()
        assert self.partitions <= self.partitions_max, session.id

    def _evict(self) -> None:
        self.close(next(iter(self._sessions)))
        self.evicted += 1

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
        if (session := self._sessions.pop(session_id, None)) is not None:
            self.partitions -= len(session.wanted)
