"""The bits of authorized operations."""

from __future__ import annotations

from riverlog.gateways.kafka.authorized import authorized_operations
from riverlog.state.access import (
    CLUSTER,
    LIBRARY_CALLER,
    AllowAll,
    DenyAll,
    Operation,
    Resource,
    ResourceKind,
)
from riverlog.testing.topic_world import Denies

TOPIC = Resource(ResourceKind.TOPIC, "a")


def test_each_kind_of_resource_has_its_operations() -> None:
    bits = {
        kind: authorized_operations(AllowAll(), LIBRARY_CALLER, Resource(kind, "a")) for kind in ResourceKind
    }
    assert bits == {
        ResourceKind.TOPIC: 0b1101_1111_1000,
        ResourceKind.GROUP: 0b1101_0100_1000,
        ResourceKind.CLUSTER: 0b1_1111_1010_0000,
        ResourceKind.TRANSACTIONAL_ID: 0b1_0001_0000,
    }


def test_what_is_denied_has_no_bit() -> None:
    assert authorized_operations(DenyAll(), LIBRARY_CALLER, CLUSTER) == 0
    assert authorized_operations(Denies(Operation.READ), LIBRARY_CALLER, TOPIC) == 0b1101_1111_0000
