"""What both sides of a group have in common."""

from __future__ import annotations

from riverlog.env.clock import Now
from riverlog.state.groups.classic import ClassicSide
from riverlog.state.groups.commands import GroupSettings, GroupState
from riverlog.state.groups.consumer import ConsumerSide
from riverlog.state.groups.effects import Effect
from riverlog.state.groups.side import Side
from riverlog.state.groups.topics import NoTopics


def test_a_fresh_side_of_either_kind_is_nobodys() -> None:
    sides: list[Side] = [ClassicSide("g", GroupSettings()), ConsumerSide("g", GroupSettings(), NoTopics())]
    assert [side.group_type for side in sides] == ["classic", "consumer"]
    for side in sides:
        effects: list[Effect] = []
        side.begin(Now(1, 1), effects)
        side.tick()
        assert (side.exists, side.member_count, side.has_newcomers, side.waiting()) == (False, 0, False, [])
        assert (side.current_state, side.deadline_ms, effects) == (GroupState.EMPTY, None, [])
