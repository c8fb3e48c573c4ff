"""Runs one machine of `state/`: does its effects in order, holds the requests that wait, commits its rows.

Invariants: one commit of a machine is in flight at a time, so that one which has to be asked again never overtakes a
later one; whatever is asked meanwhile goes into the next. A reply leaves when every commit asked for before it is
durable, and what else a machine wants done is begun only then, but for what is named as early. A lazy commit is waited
for by nobody: its rows go with the next commit, or by themselves after a moment, or when the broker stops. A commit
that is refused drops the machine: all who wait get an error that says "ask again", and the next request loads the
machine from its rows.
Not here: which machines there are, timers (`machines.py`), access.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

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
from riverlog.env.clock import Clock, Now
from riverlog.env.entropy import Entropy
from riverlog.env.tasks import Tasks
from riverlog.state.groups import effects as of_groups
from riverlog.state.transactions import effects as of_transactions

log = logging.getLogger(__name__)

commit_wait_ms_max: Final = 5_000  # longer than that nobody waits for a commit whose outcome is not known
commit_retry_pause_ms_max: Final = 1_000
lazy_commit_ms_max: Final = 50  # rows that nobody waits for are committed after that

_NOT_YET: Final = object()

Rows: TypeAlias = dict[str, "bytes | None"]


class Machine(Protocol):
    """What runs here: pure, one a scope. What its commands, results and effects are is between it and who asks."""

    @property
    def exists(self) -> bool:
        """Whether something is left of it; else it may be forgotten."""
        ...

    @property
    def deadline_ms(self) -> int | None: ...

    def step(self, command: Any, now: Now) -> Sequence[Any]: ...


M = TypeVar("M", bound=Machine)


class RunnerWorld(NamedTuple, Generic[M]):
    """What all runners of one kind share."""

    noun: str  # what a machine is of, for people: "group"
    catalog: Catalog
    clock: Clock
    entropy: Entropy
    tasks: Tasks
    schedule: Callable[[MachineRunner[M], int | None], None]  # monotonic ms
    idle: Callable[[MachineRunner[M]], None]  # nothing is left of it: it may be forgotten
    dropped: Callable[[MachineRunner[M]], None]
    perform: Callable[[MachineRunner[M], Any], None] | None = None  # effects of which nothing is known here
    early: tuple[type, ...] = ()  # those of them that wait for no commit


class MachineRunner(Generic[M]):
    def __init__(self, name: str, lease: Lease, machine: M, world: RunnerWorld[M]) -> None:
        self.name = name
        self.lease = lease
        self.machine = machine
        self.deadline_ms: int | None = None  # of the tick that is due; the alarm's
        self.committing: asyncio.Task[None] | None = None
        self.refusal: RiverlogError | None = None  # dropped, or a commit is in doubt: nothing may be asked
        self._world = world
        self._stopping = False
        self._pausing = False  # before it asks again for a commit in doubt
        self._waiting: dict[int, asyncio.Future[Any]] = {}  # by token
        self._staged: Rows = {}  # rows of the next commit
        self._is_urgent = False  # somebody waits for what is staged
        self._later: asyncio.Task[None] | None = None  # sees to it that lazy rows are committed
        self._behind_staged: list[Any] = []  # replies and other effects
        self._behind_commit: list[Any] = []  # the one in flight

    @property
    def is_idle(self) -> bool:
        return not (self.machine.exists or self._waiting or self._staged or self.committing is not None)

    @property
    def what(self) -> str:
        return f"{self._world.noun} {self.name!r}"

    def ask(self, command: Any, token: int) -> Any:
        """The answer, or a future of it. Raises RiverlogError where the machine is gone."""
        answer = self._step(command, token)
        if answer is not _NOT_YET:
            if not self.machine.exists and self.is_idle:
                self._world.idle(self)
            return answer
        if self.refusal is not None:
            raise self.refusal
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        return future

    def tell(self, command: Any) -> None:
        """A command that nobody waits for."""
        if self.refusal is None:
            self._step(command, None)
            if self.is_idle:
                self._world.idle(self)

    def begin(self, effects: Sequence[Any]) -> None:
        """What the machine wants done since it was loaded."""
        self._do(effects, None)

    def drop(self, kind: ErrorKind, message: str) -> None:
        """The machine is no more to be believed."""
        self.refusal = RiverlogError(kind, message)
        self._refuse_waiting(kind, message)
        self._world.dropped(self)

    def stop(self) -> asyncio.Task[None] | None:
        """Lazy rows are committed now, and no commit is asked again from now on. Gives the task of the commit in flight."""
        self._stopping = True
        if self.committing is None and self._staged and self.refusal is None:
            self._commit_now()
        elif self.committing is not None and self._pausing:
            self.committing.cancel()
        return self.committing

    def _step(self, command: Any, token: int | None) -> Any:
        if self.refusal is not None:
            raise RiverlogError(self.refusal.kind, self.refusal.message)
        try:
            effects = self.machine.step(command, self._world.clock.now())
        except Exception as error:
            log.exception("%s: %s failed", self.what, type(command).__name__)
            message = f"the coordinator of {self.what} failed and is loaded again: ask again"
            self.drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, message)
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from error
        return self._do(effects, token)

    def _do(self, effects: Sequence[Any], token: int | None) -> Any:
        """Gives the answer to `token` where it need not wait."""
        answer: Any = _NOT_YET
        for effect in effects:
            match effect:
                case of_groups.Commit():
                    self._stage(effect.rows, is_lazy=False)
                case of_transactions.Commit():
                    self._stage(effect.rows, is_lazy=effect.lazy)
                case of_groups.Schedule() | of_transactions.Schedule():
                    self._world.schedule(self, effect.deadline_ms)
                case _ if isinstance(effect, self._world.early):
                    self._let_go(effect)
                case _ if self._is_urgent:
                    self._behind_staged.append(effect)
                case _ if self.committing is not None:
                    self._behind_commit.append(effect)
                case of_groups.Reply() | of_transactions.Reply() if effect.token == token:
                    answer = effect.result
                case _:
                    self._let_go(effect)
        return answer

    def _let_go(self, effect: Any) -> None:
        """A reply or another effect, which waits for no commit any more."""
        if isinstance(effect, of_groups.Reply | of_transactions.Reply):
            future = self._waiting.pop(effect.token, None)
            if future is not None and not future.done():
                future.set_result(effect.result)
        else:
            assert self._world.perform is not None, effect
            self._world.perform(self, effect)

    def _refuse_waiting(self, kind: ErrorKind, message: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(RiverlogError(kind, message))

    # ------------------------------------------------------------------ commits

    def _stage(self, rows: Mapping[str, bytes | None], *, is_lazy: bool) -> None:
        self._staged.update(rows)
        if not is_lazy:
            self._is_urgent = True
            if self.committing is None:
                self._commit_now()
        elif self.committing is None and self._later is None:
            self._later = self._world.tasks.start(self._commit_later(), name=f"lazy commit of {self.name}")

    def _commit_now(self) -> None:
        self.committing = self._world.tasks.start(self._commit_all(), name=f"commit of {self.name}")

    async def _commit_later(self) -> None:
        await self._world.clock.sleep(lazy_commit_ms_max / 1000)
        self._later = None
        if self._staged and self.committing is None and self.refusal is None:
            self._commit_now()

    async def _commit_all(self) -> None:
        try:
            while self._staged:
                rows, self._staged = self._staged, {}
                self._is_urgent = False
                self._behind_commit, self._behind_staged = self._behind_staged, []
                await self._commit(rows)
                effects, self._behind_commit = self._behind_commit, []
                if self.refusal is None:
                    for effect in effects:
                        self._let_go(effect)
            self.committing = None
        except RiverlogError as error:
            self.committing = None
            self.drop(error.kind, error.message)
            return
        except BaseException:
            self.committing = None
            self.drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, f"{self.what}: the commit failed, ask again")
            raise
        if self.refusal is not None:
            self.drop(self.refusal.kind, self.refusal.message)  # out of doubt, but nobody was answered: load again
        elif self.is_idle:
            self._world.idle(self)

    async def _commit(self, rows: Rows) -> None:
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
                message = f"{self.what} is coordinated elsewhere: find its coordinator again"
                raise RiverlogError(ErrorKind.NOT_COORDINATOR, message) from cause
            except CatalogUnavailable as cause:
                message = f"{self.what} cannot be written now, ask again: {cause}"
                raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from cause
            except MaybeCommitted:
                if self.refusal is None and world.clock.monotonic_ms() - begin_ms >= commit_wait_ms_max:
                    message = f"it is not known whether {self.what} was written: ask again"
                    self.refusal = RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message)
                    self._refuse_waiting(self.refusal.kind, message)
                    log.warning("%s", message)
                if self._stopping:
                    message = f"the broker is stopping; it is not known whether {self.what} was written"
                    raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from None
                if pause_ms:
                    self._pausing = True
                    await world.clock.sleep(pause_ms / 1000)
                    self._pausing = False
                pause_ms = min(max(2 * pause_ms, 10), commit_retry_pause_ms_max)
