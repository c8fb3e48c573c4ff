"""Who may do what, until security comes: everybody everything."""

from __future__ import annotations

from riverlog.state.access import CLUSTER, LIBRARY_CALLER, AllowAll, DenyAll, Operation


def test_all_or_nothing() -> None:
    for operation in Operation:
        assert AllowAll().allows(LIBRARY_CALLER, operation, CLUSTER)
        assert not DenyAll().allows(LIBRARY_CALLER, operation, CLUSTER)
