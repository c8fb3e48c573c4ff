"""The machines of one kind in this process: loading them at first use, letting them go, and keeping their time.

Invariant: a name has at most one machine here, and only while this process holds the lease of its scope.
Not here: what is asked and who may, how a machine's effects are done (`effects.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Generic, NamedTuple, TypeAlias

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.alarm import Alarm
from riverlog.broker.effects import M, MachineRunner, RunnerWorld
from riverlog.catalog.contract import Catalog, CatalogUnavailable, OwnedBy, Scope
from riverlog.env.clock import Clock, Now
from riverlog.env.entropy import Entropy
from riverlog.env.tasks import Tasks

log = logging.getLogger(__name__)

Loaded: TypeAlias = tuple[M, Sequence[Any]]  # the machine, and what it wants done since


class MachineKind(NamedTuple, Generic[M]):
    """`load` makes a machine of a name's rows. `tick` is the command that tells it its time has come."""

    scope_kind: str
    noun: str
    load: Callable[[str, Mapping[str, bytes], Now], Loaded[M]]
    tick: Any


class Machines(Generic[M]):
    """`perform` does the effects that are neither replies, commits nor deadlines; those of the types `early` at once,
    the others once every commit before them is durable."""

    def __init__(
        self,
        kind: MachineKind[M],
        catalog: Catalog,
        clock: Clock,
        entropy: Entropy,
        perform: Callable[[MachineRunner[M], Any], None] | None = None,
        early: tuple[type, ...] = (),
    ) -> None:
        self.tasks = Tasks(f"{kind.noun}s")
        self.runners: dict[str, MachineRunner[M]] = {}  # by name
        self._kind = kind
        self._catalog = catalog
        self._clock = clock
        self._alarm: Alarm[MachineRunner[M]] = Alarm(clock, self.tasks, self._tick)
        self._world: RunnerWorld[M] = RunnerWorld(
            kind.noun,
            catalog,
            clock,
            entropy,
            self.tasks,
            self._alarm.schedule,
            self._release,
            self._forget,
            perform,
            early,
        )
        self._loading: dict[str, asyncio.Task[MachineRunner[M] | RiverlogError]] = {}
        self._releasing: dict[str, asyncio.Task[None]] = {}
        self._tokens = count(1)
        self._closed = False

    def next_token(self) -> int:
        return next(self._tokens)

    async def ask(self, name: str, command: Any, token: int) -> Any:
        """The machine's answer; `token` is the command's. Raises RiverlogError where there is no machine to answer."""
        runner = None if self._closed else self.runners.get(name)
        answer = (runner or await self.ready(name)).ask(command, token)
        return await answer if isinstance(answer, asyncio.Future) else answer

    async def ready(self, name: str) -> MachineRunner[M]:
        """The runner of the machine, which may be asked in the same turn of the loop. Raises as `ask`."""
        runner = None if self._closed else self.runners.get(name)
        while runner is None:
            runner = await self._load(name)
            if self.runners.get(name) is not runner:
                runner = None  # who waited with us was quicker, and nothing is left of it
        return runner

    async def _load(self, name: str) -> MachineRunner[M]:
        """The runner that there is, else one that is loaded, once for all who ask."""
        if not self._closed and (runner := self.runners.get(name)) is not None:
            return runner
        loading = self._loading.get(name)
        if loading is None and not self._closed:
            loading = self.tasks.start(self._load_now(name), name=f"load of {name}")
            self._loading[name] = loading
        if loading is not None:
            await asyncio.wait([loading])  # unlike a plain await: whoever goes away leaves the load to the others
        if loading is None or loading.cancelled():
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, "the broker is stopping: ask again")
        outcome = loading.result()
        if isinstance(outcome, RiverlogError):
            raise RiverlogError(outcome.kind, outcome.message)
        return outcome

    async def _load_now(self, name: str) -> MachineRunner[M] | RiverlogError:
        noun = self._kind.noun
        try:
            if (releasing := self._releasing.get(name)) is not None:
                await asyncio.wait([releasing])
            scope = Scope(self._kind.scope_kind, name)
            lease = await self._catalog.own(scope)
            if isinstance(lease, OwnedBy):
                message = f"{noun} {name!r} is coordinated at {lease.address}: find its coordinator again"
                return RiverlogError(ErrorKind.NOT_COORDINATOR, message)
            rows = {key: row.value for key, row in (await self._catalog.load(scope)).items()}
            machine, effects = self._kind.load(name, rows, self._clock.now())
            runner = MachineRunner(name, lease, machine, self._world)
            await self._loaded(runner)
            if runner.refusal is not None:
                return runner.refusal
            assert name not in self.runners, name
            self.runners[name] = runner
            self._alarm.schedule(runner, machine.deadline_ms)
            runner.begin(effects)
            return runner
        except CatalogUnavailable as error:
            message = f"{noun} {name!r} cannot be loaded now, ask again: {error}"
            return RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message)
        except RiverlogError as error:
            log.error("%s %r cannot be loaded: %s", noun, name, error.message)
            return RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, f"{noun} {name!r}: {error.message}")
        finally:
            del self._loading[name]

    async def _loaded(self, runner: MachineRunner[M]) -> None:
        """What has to be done before anybody may ask the machine; for subclasses. Raises RiverlogError: it was not loaded."""

    def _release(self, runner: MachineRunner[M]) -> None:
        """Nothing is left of it: it is as if nobody had ever asked for it."""
        if self.runners.get(runner.name) is runner:
            del self.runners[runner.name]
            self._releasing[runner.name] = self.tasks.start(
                self._release_now(runner), name=f"release of {runner.name}"
            )

    async def _release_now(self, runner: MachineRunner[M]) -> None:
        try:
            await self._catalog.release(runner.lease)
        except CatalogUnavailable as error:
            log.warning("the lease of %s was not given back: %s", runner.what, error)
        finally:
            del self._releasing[runner.name]

    def _forget(self, runner: MachineRunner[M]) -> None:
        """The machine was dropped; the next request loads another."""
        if self.runners.get(runner.name) is runner:
            del self.runners[runner.name]
            assert runner.refusal is not None
            if not self._closed:
                log.warning("%s is loaded again: %s", runner.what, runner.refusal.message)

    async def load_all(self) -> None:
        """Loads every one that there is and that nobody else owns."""
        noun = self._kind.noun
        try:
            scopes = await self._catalog.scopes(self._kind.scope_kind)
        except CatalogUnavailable as error:
            message = f"the {noun}s cannot be listed now, ask again: {error}"
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from error
        for scope in scopes:
            if scope.name not in self.runners:
                try:
                    await self._load(scope.name)
                except RiverlogError as error:
                    log.debug("%s %r was not loaded: %s", noun, scope.name, error.message)

    async def close(self) -> None:
        """Finishes the commits in flight; who waits for something else is told to ask again."""
        if self._closed:
            return
        self._closed = True
        commits = [commit for runner in self.runners.values() if (commit := runner.stop()) is not None]
        if commits:
            await asyncio.wait(commits)
        for runner in list(self.runners.values()):
            runner.drop(ErrorKind.COORDINATOR_NOT_AVAILABLE, "the broker is stopping: ask again")
        await self.tasks.close()

    def _tick(self, runner: MachineRunner[M]) -> None:
        if runner.refusal is None:
            self.tell(runner, self._kind.tick)

    def tell(self, runner: MachineRunner[M], command: Any) -> None:
        """One machine's failure is not the others'; the runner has logged it and dropped it."""
        try:
            runner.tell(command)
        except RiverlogError:
            pass
