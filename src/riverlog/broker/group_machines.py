"""The groups' machines in this process: loading them at first use, letting them go, and keeping their time.

Invariant: a group has at most one machine here, and only while this process holds the group's lease.
Not here: what is asked and who may (`coordinator.py`), how a machine's effects are done (`effects.py`).
"""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.alarm import Alarm
from riverlog.broker.effects import GroupRunner, RunnerWorld
from riverlog.catalog.contract import Catalog, CatalogUnavailable, OwnedBy, Scope
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.env.tasks import Tasks
from riverlog.state.groups.classic import ClassicGroup
from riverlog.state.groups.commands import Command, GroupSettings, Result, Tick, Token

log = logging.getLogger(__name__)

GROUP_SCOPE: Final = "group"


class GroupMachines:
    def __init__(self, settings: GroupSettings, catalog: Catalog, clock: Clock, entropy: Entropy) -> None:
        self.tasks = Tasks("groups")
        self.runners: dict[str, GroupRunner] = {}  # by group id
        self._settings = settings
        self._catalog = catalog
        self._clock = clock
        self._alarm = Alarm(clock, self.tasks, self._tick)
        self._world = RunnerWorld(
            catalog, clock, entropy, self.tasks, self._alarm.schedule, self._release, self._forget
        )
        self._loading: dict[str, asyncio.Task[GroupRunner | RiverlogError]] = {}
        self._releasing: dict[str, asyncio.Task[None]] = {}
        self._tokens = count(1)
        self._closed = False

    def token(self) -> Token:
        return Token(next(self._tokens))

    async def ask(self, group_id: str, command: Command, token: Token) -> Result:
        """The group's answer; `token` is the command's. Raises RiverlogError where there is no machine to answer."""
        runner = None if self._closed else self.runners.get(group_id)
        while runner is None:
            runner = await self._load(group_id)
            if self.runners.get(group_id) is not runner:
                runner = None  # who waited with us was quicker, and nothing is left of the group
        answer = runner.ask(command, token)
        return await answer if isinstance(answer, asyncio.Future) else answer

    async def _load(self, group_id: str) -> GroupRunner:
        loading = self._loading.get(group_id)
        if loading is None and not self._closed:
            loading = self.tasks.start(self._load_now(group_id), name=f"load of {group_id}")
            self._loading[group_id] = loading
        if loading is not None:
            await asyncio.wait([loading])  # unlike a plain await: whoever goes away leaves the load to the others
        if loading is None or loading.cancelled():
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, "the broker is stopping: ask again")
        outcome = loading.result()
        if isinstance(outcome, RiverlogError):
            raise RiverlogError(outcome.kind, outcome.message)
        return outcome

    async def _load_now(self, group_id: str) -> GroupRunner | RiverlogError:
        try:
            if (releasing := self._releasing.get(group_id)) is not None:
                await asyncio.wait([releasing])
            scope = Scope(GROUP_SCOPE, group_id)
            lease = await self._catalog.own(scope)
            if isinstance(lease, OwnedBy):
                message = f"group {group_id!r} is coordinated at {lease.address}: find its coordinator again"
                return RiverlogError(ErrorKind.NOT_COORDINATOR, message)
            rows = {key: row.value for key, row in (await self._catalog.load(scope)).items()}
            machine = ClassicGroup.load(group_id, rows, self._settings, self._clock.now())
            runner = GroupRunner(group_id, lease, machine, self._world)
            self.runners[group_id] = runner
            self._alarm.schedule(runner, machine.deadline_ms)
            return runner
        except CatalogUnavailable as error:
            message = f"group {group_id!r} cannot be loaded now, ask again: {error}"
            return RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message)
        except RiverlogError as error:
            log.error("group %r cannot be loaded: %s", group_id, error.message)
            return RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, f"group {group_id!r}: {error.message}")
        finally:
            del self._loading[group_id]

    def _release(self, runner: GroupRunner) -> None:
        """Nothing is left of the group: it is as if nobody had ever asked for it."""
        if self.runners.get(runner.group_id) is runner:
            del self.runners[runner.group_id]
            self._releasing[runner.group_id] = self.tasks.start(
                self._release_now(runner), name=f"release of {runner.group_id}"
            )

    async def _release_now(self, runner: GroupRunner) -> None:
        try:
            await self._catalog.release(runner.lease)
        except CatalogUnavailable as error:
            log.warning("the lease of group %r was not given back: %s", runner.group_id, error)
        finally:
            del self._releasing[runner.group_id]

    def _forget(self, runner: GroupRunner) -> None:
        """The machine was dropped; the next request loads another."""
        if self.runners.get(runner.group_id) is runner:
            del self.runners[runner.group_id]
            assert runner.refusal is not None
            if not self._closed:
                log.warning("group %r is loaded again: %s", runner.group_id, runner.refusal.message)

    async def load_all(self) -> None:
        """Loads every group that there is and that nobody else owns."""
        try:
            scopes = await self._catalog.scopes(GROUP_SCOPE)
        except CatalogUnavailable as error:
            message = f"the groups cannot be listed now, ask again: {error}"
            raise RiverlogError(ErrorKind.COORDINATOR_NOT_AVAILABLE, message) from error
        for scope in scopes:
            if scope.name not in self.runners:
                try:
                    await self._load(scope.name)
                except RiverlogError as error:
                    log.debug("group %r was not loaded: %s", scope.name, error.message)

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

    def _tick(self, runner: GroupRunner) -> None:
        if runner.refusal is None:
            self.tell(runner, Tick())

    def tell(self, runner: GroupRunner, command: Command) -> None:
        """One group's failure is not the others'; the runner has logged it and dropped its machine."""
        try:
            runner.tell(command)
        except RiverlogError:
            pass
