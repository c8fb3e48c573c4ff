"""The groups' machines in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from riverlog.broker.machines import Loaded, MachineKind, Machines
from riverlog.catalog.contract import Catalog
from riverlog.env.clock import Clock, Now
from riverlog.env.entropy import Entropy
from riverlog.state.groups.commands import GroupSettings, Tick, Token
from riverlog.state.groups.group import Group
from riverlog.state.groups.topics import TopicsView

GROUP_SCOPE: Final = "group"


class GroupMachines(Machines[Group]):
    def __init__(
        self, settings: GroupSettings, topics: TopicsView, catalog: Catalog, clock: Clock, entropy: Entropy
    ) -> None:
        def load(group_id: str, rows: Mapping[str, bytes], now: Now) -> Loaded[Group]:
            return Group.load(group_id, rows, settings, topics, now), ()

        super().__init__(MachineKind(GROUP_SCOPE, "group", load, Tick()), catalog, clock, entropy)

    def token(self) -> Token:
        return Token(self.next_token())
