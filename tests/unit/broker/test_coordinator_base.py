"""What the broker's settings say of groups reaches their machines."""

from __future__ import annotations

from dataclasses import fields

from riverlog.broker.coordinator_base import group_settings_of
from riverlog.broker.settings import BrokerSettings
from riverlog.state.groups.commands import GroupSettings


def test_the_defaults_of_the_broker_are_those_of_the_machine() -> None:
    assert group_settings_of(BrokerSettings()) == GroupSettings()


def test_every_setting_of_a_group_is_filled() -> None:
    settings = BrokerSettings(
        group_session_timeout_ms_min=1,
        group_session_timeout_ms_max=2,
        group_members_max=3,
        group_initial_rebalance_delay_ms=4,
        offsets_retention_ms=5,
        group_consumer_session_timeout_ms=6,
        group_consumer_heartbeat_interval_ms=7,
        group_consumer_assignment_interval_ms=8,
        group_consumer_members_max=9,
        group_consumer_assignors=("range",),
        group_consumer_migration_policy="disabled",
    )
    told, default = group_settings_of(settings), GroupSettings()
    same = [one.name for one in fields(GroupSettings) if getattr(told, one.name) == getattr(default, one.name)]
    assert same == []
