"""Runs one group's machine: does its effects in order, holds the requests that wait, commits its rows.

Invariants: one commit of a group is in flight at a time, so that one which has to be asked again never overtakes a
later one; whatever is asked meanwhile goes into the next. A reply leaves when every commit asked for before it is
durable. A commit that is refused drops the machine: all who wait get an error that says "ask again", and the next
request loads the machine from its rows.
Not here: which groups there are, timers, access (`coordinator.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.catalog.contract import (
    Catalog,
    CatalogUnavailable,
    Change,
    CommitId,
    Conflict,
    Lease,
    LeaseLost,
    MaybeCommitted,
)
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.env.tasks import Tasks
from riverlog.state.groups.classic import ClassicGroup
from riverlog.state.groups.commands import Command, Result, Token
from riverlog.state.groups.effects import Commit, Effect, Reply, Schedule

log = logging.getLogger(__name__)

commit_wait_ms_max: Final = 5_000  # longer than that nobody waits for a commit whose outcome is not known
commit_retry_pause_ms_max: Final = 1_000

_NOT_YET: Final = object()


class RunnerWorld(NamedTuple):
    """What all runners of a coordinator share."""

    catalog: Catalog
    clock: Clock
    entropy: Entropy
    tasks: Tasks
    schedule: Callable[[GroupRunner, int | None], None]  # monotonic ms
    idle: Callable[[GroupRunner], None]  # nothing is left of the group: it may be forgotten
    dropped: Callable[[GroupRunner], None]


class GroupRunner:
    def __init__(self, group_id: str, lease: Lease, machine: ClassicGroup, world: RunnerWorld) -> None:
        self.group_id = group_id
        self.lease = lease
        self.machine = machine
        self.deadline_ms: int | None = None  # of the tick that is due; the coordinator's
        self.committing: asyncio.Task[None] | None = None
        self.refusal: RiverlogError | None = None  # dropped, or a commit is in doubt: nothing may be asked
        self._world = world
        self._stopping = False
        self._pausing = False  # before it asks again for a commit in doubt
        self._waiting: dict[Token, asyncio.Future[Result]] = {}
        self._staged: dict[str, bytes | None] = {}  # rows of the next commit
        self._behind_staged: list[Reply] = []
        self._behind_commit: list[Reply] = []  # the one in flight

    @property
    def is_idle(self) -> bool:
        return not (self.machine.exists or self._waiting or self.committing is not None)

    def ask(self, command: Command, token: Token) -> Result | asyncio.Future[Result]:
        """The answer, or a future of it. Raises RiverlogError where the machine is gone."""
        answer = self._step(command, token)
        if answer is not _NOT_YET:
            if not self.machine.exists and self.is_idle:
                self._world.idle(self)
            return answer  # type: ignore[no-any-return]  # Any, because of the sentinel
        if self.refusal is not None:
            raise self.refusal
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        return future

    def tell(self, command: Command) -> None:
        """A command that nobody waits for."""
        if self.refusal is None:
            self._step(command, None)
            if self.is_idle:
                self._world.idle(self)

    def drop(self, kind: ErrorKind, message: str) -> None:
        """The machine is no more to be believed."""
        self.refusal = RiverlogError(kind, message)
        self._refuse_waiting(kind, message)
        self._world.dropped(self)

    def stop(self) -> asyncio.Task[None] | None:
        """No commit is asked again from now on. Gives the task of the commit in flight."""
        self._stopping = True
        if self.committing is not None and self._pausing:
            self.committing.cancel()
        return self.committing

    def _step(self, command: Command, token: Token | None) -> Any:
        if self.refusal is not None:
            raise RiverlogError(self.refusal.kind, self.refusal.message)
        try:
            effects = self.machine.step(command, self._world.clock.now())
        except Exception as error:
            log.exception("group %r: %s failed", self.group_id, type(command).__name__)
            message = f"the coordinator of group {self.group_id!r} failed and is loaded again: ask again"
            self.drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, message)
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from error
        return self._do(effects, token)

    def _do(self, effects: list[Effect], token: Token | None) -> Any:
        """Gives the answer to `token` where it need not wait."""
        answer: Any = _NOT_YET
        for effect in effects:
            match effect:
                case Reply():
                    if self._staged:
                        self._behind_staged.append(effect)
                    elif self.committing is not None:
                        self._behind_commit.append(effect)
                    elif effect.token == token:
                        answer = effect.result
                    else:
                        self._answer(effect)
                case Commit():
                    self._staged.update(effect.rows)
                    if self.committing is None:
                        self.committing = self._world.tasks.start(self._commit_all(), name=f"commit of {self.group_id}")
                case Schedule():
                    self._world.schedule(self, effect.deadline_ms)
        return answer

    def _answer(self, reply: Reply) -> None:
        future = self._waiting.pop(reply.token, None)
        if future is not None and not future.done():
            future.set_result(reply.result)

    def _refuse_waiting(self, kind: ErrorKind, message: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(RiverlogError(kind, message))

    async def _commit_all(self) -> None:
        try:
            while self._staged:
                rows, self._staged = self._staged, {}
                self._behind_commit, self._behind_staged = self._behind_staged, []
                await self._commit(rows)
                replies, self._behind_commit = self._behind_commit, []
                for reply in replies:
                    self._answer(reply)
            self.committing = None
        except RiverlogError as error:
            self.committing = None
            self.drop(error.kind, error.message)
            return
        except BaseException:
            self.committing = None
            self.drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, f"group {self.group_id!r}: the commit failed, ask again")
            raise
        if self.refusal is not None:
            self.drop(self.refusal.kind, self.refusal.message)  # out of doubt, but nobody was answered: load again
        elif self.is_idle:
            self._world.idle(self)

    async def _commit(self, rows: dict[str, bytes | None]) -> None:
        """Returns when the rows are durable. Raises RiverlogError where they will not be."""
        world = self._world
        commit_id = CommitId(world.entropy.token_bytes(16))
        changes = [Change(self.lease.scope, key, value) for key, value in rows.items()]
        begin_ms = world.clock.monotonic_ms()
        pause_ms = 0
        while True:
            try:
                await world.catalog.commit(commit_id, self.lease, changes)
                return
            except (Conflict, LeaseLost) as cause:
                message = f"group {self.group_id!r} is coordinated elsewhere: find its coordinator again"
                raise RiverlogError(ErrorKind.NOT_COORDINATOR, message) from cause
            except CatalogUnavailable as cause:
                message = f"group {self.group_id!r} cannot be written now, ask again: {cause}"
                raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from cause
            except MaybeCommitted:
                if self.refusal is None and world.clock.monotonic_ms() - begin_ms >= commit_wait_ms_max:
                    message = f"it is not known whether group {self.group_id!r} was written: ask again"
                    self.refusal = RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message)
                    self._refuse_waiting(self.refusal.kind, message)
                    log.warning("%s", message)
                if self._stopping:
                    message = f"the broker is stopping; it is not known whether group {self.group_id!r} was written"
                    raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from None
                if pause_ms:
                    self._pausing = True
                    await world.clock.sleep(pause_ms / 1000)
                    self._pausing = False
                pause_ms = min(max(2 * pause_ms, 10), commit_retry_pause_ms_max)
