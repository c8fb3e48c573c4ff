"""The groups' machines in this process.

Invariant: before a group is asked anything after its load, it has heard what became of the transactions of which it
keeps offsets; those that are open are told later. One whose outcome cannot be had now stays undecided, and is asked
for again (`coordinator.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from riverlog.base.errors import RiverlogError
from riverlog.broker.effects import MachineRunner
from riverlog.broker.machines import Loaded, MachineKind, Machines
from riverlog.catalog.contract import Catalog
from riverlog.env.clock import Clock, Now
from riverlog.env.entropy import Entropy
from riverlog.state.groups.commands import Configure, EndPending, GroupSettings, Tick, Token
from riverlog.state.groups.group import Group
from riverlog.state.groups.topics import TopicsView
from riverlog.state.transactions.commands import Number, Outcome

log = logging.getLogger(__name__)

GROUP_SCOPE: Final = "group"

Outcomes = Callable[[str, Number], Awaitable[Outcome]]


class GroupMachines(Machines[Group]):
    def __init__(
        self,
        settings_of: Callable[[str], GroupSettings],
        topics: TopicsView,
        catalog: Catalog,
        clock: Clock,
        entropy: Entropy,
        outcomes: Outcomes,
    ) -> None:
        """`settings_of` a group, by its id."""

        def load(group_id: str, rows: Mapping[str, bytes], now: Now) -> Loaded[Group]:
            return Group.load(group_id, rows, settings_of(group_id), topics, now), ()

        self._settings_of = settings_of
        self._outcomes = outcomes
        super().__init__(MachineKind(GROUP_SCOPE, "group", load, Tick()), catalog, clock, entropy)

    def token(self) -> Token:
        return Token(self.next_token())

    async def _loaded(self, runner: MachineRunner[Group]) -> None:
        await self.settle(runner)
        self.tell(runner, Configure(self._settings_of(runner.name)))  # they may have changed meanwhile

    async def settle(self, runner: MachineRunner[Group]) -> None:
        """Tells a group of the transactions that were decided of those whose offsets it keeps."""
        for transactional_id, number in runner.machine.offsets.undecided():
            try:
                outcome = await self._outcomes(transactional_id, Number(number))
            except RiverlogError as error:
                log.warning("group %r: transaction %r is not known now: %s", runner.name, transactional_id, error.message)
                continue
            if outcome is not Outcome.OPEN:
                ended = EndPending(self.token(), transactional_id, number, outcome is Outcome.COMMITTED)
                self.tell(runner, ended)
