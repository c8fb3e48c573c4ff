"""Names that clients and tools see."""

from __future__ import annotations

from riverlog.state.groups.commands import GroupSettings, GroupState


def test_states_are_called_as_in_kafka() -> None:
    names = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Assigning", "Reconciling", "Dead"]
    assert [state.value for state in GroupState] == names


def test_defaults_are_those_of_the_guide() -> None:
    settings = GroupSettings()
    assert (settings.session_timeout_ms_min, settings.session_timeout_ms_max) == (6_000, 1_800_000)
    assert (settings.members_max, settings.initial_rebalance_delay_ms) == (10_000, 0)
