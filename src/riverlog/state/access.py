"""Who may do what. Every call of `broker` takes a `Caller` first and asks here, once a resource."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, Protocol


class Operation(Enum):
    """Kafka's operations (its protocol's codes as values)."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


class ResourceKind(Enum):
    """Kafka's resource types (its protocol's codes as values)."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class Resource(NamedTuple):
    kind: ResourceKind
    name: str


CLUSTER: Final = Resource(ResourceKind.CLUSTER, "kafka-cluster")


class Caller(NamedTuple):
    """Who asks, and how they came in."""

    principal: str  # "User:ANONYMOUS" until security comes
    client_id: str
    listener: str  # "kafka", "http", "library", …
    peer: str  # address and port


LIBRARY_CALLER: Final = Caller("User:library", "riverlog", "library", "in-process")


class Access(Protocol):
    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool: ...


class AllowAll:
    """Until security comes."""

    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return True


class DenyAll:
    """For tests: every API must answer its authorization error or leave the resource out."""

    def allows(self, caller: Caller, operation: Operation, resource: Resource) -> bool:
        return False
