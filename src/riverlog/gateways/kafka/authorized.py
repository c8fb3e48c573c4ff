"""Which operations a caller may do on a resource, as the bits that several answers carry when a client asks for
them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from riverlog.state.access import Access, Caller, Operation, Resource, ResourceKind

NOT_ASKED: Final = -(2**31)  # what the field says where nobody asked

_OPERATIONS: Final[Mapping[ResourceKind, tuple[Operation, ...]]] = {
    ResourceKind.TOPIC: (
        Operation.READ, Operation.WRITE, Operation.CREATE, Operation.DELETE, Operation.ALTER, Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS,
    ),
    ResourceKind.GROUP: (
        Operation.READ, Operation.DELETE, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS
    ),
    ResourceKind.CLUSTER: (
        Operation.CREATE, Operation.ALTER, Operation.DESCRIBE, Operation.CLUSTER_ACTION, Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS, Operation.IDEMPOTENT_WRITE,
    ),
    ResourceKind.TRANSACTIONAL_ID: (Operation.WRITE, Operation.DESCRIBE),
}  # fmt: skip


def authorized_operations(access: Access, caller: Caller, resource: Resource) -> int:
    """Bit n is set where the operation with code n is allowed."""
    return sum(
        1 << operation.value
        for operation in _OPERATIONS[resource.kind]
        if access.allows(caller, operation, resource)
    )
