"""The groups' machines in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from riverlog.broker.machines import Loaded, MachineKind, Machines
from riverlog.catalog.contract import Catalog
from riverlog.env.clock import Clock, Now
from riverlog.env.entropy import Entropy
from riverlog.state.groups.classic import ClassicGroup
from riverlog.state.groups.commands import GroupSettings, Tick, Token

GROUP_SCOPE: Final = "group"


class GroupMachines(Machines[ClassicGroup]):
    def __init__(self, settings: GroupSettings, catalog: Catalog, clock: Clock, entropy: Entropy) -> None:
        def load(group_id: str, rows: Mapping[str, bytes], now: Now) -> Loaded[ClassicGroup]:
            return ClassicGroup.load(group_id, rows, settings, now), ()

        super().__init__(MachineKind(GROUP_SCOPE, "group", load, Tick()), catalog, clock, entropy)

    def token(self) -> Token:
        return Token(self.next_token())
