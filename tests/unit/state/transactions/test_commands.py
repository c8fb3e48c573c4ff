"""Names and defaults that clients and tools see."""

from __future__ import annotations

from riverlog.base.units import DAY_MS, MINUTE_MS
from riverlog.state.transactions.commands import TransactionSettings, TransactionState, Version


def test_states_are_called_as_in_kafka() -> None:
    names = ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"]
    assert [state.value for state in TransactionState] == [*names, "PrepareEpochFence", "Dead"]


def test_versions_are_those_of_the_feature() -> None:
    assert [version.value for version in Version] == [0, 1, 2]


def test_defaults_are_those_of_the_guide() -> None:
    settings = TransactionSettings()
    assert (settings.timeout_ms_max, settings.expiration_ms) == (15 * MINUTE_MS, 7 * DAY_MS)
