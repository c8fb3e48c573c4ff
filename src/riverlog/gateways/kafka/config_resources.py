"""What the three config APIs share: the kinds of resources that have configs, and who may do what to them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.dispatch import Call
from riverlog.state.access import CLUSTER, Operation, Resource, ResourceKind


class ConfigResourceType(IntEnum):
    """As the protocol numbers them."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


def resource_type(code: int) -> ConfigResourceType:
    """Raises INVALID_REQUEST."""
    try:
        return ConfigResourceType(code)
    except ValueError:
        known = ", ".join(f"{one.value} ({one.name})" for one in ConfigResourceType)
        raise RiverlogError(
            ErrorKind.INVALID_REQUEST, f"resource type {code} has no configs: ask for one of {known}"
        ) from None


def resource_kind(code: int) -> ResourceKind:
    """Whose authorization error a resource of that type gets."""
    if code == ConfigResourceType.TOPIC:
        return ResourceKind.TOPIC
    return ResourceKind.GROUP if code == ConfigResourceType.GROUP else ResourceKind.CLUSTER


def check_access(call: Call, operation: Operation, code: int, name: str) -> None:
    """Raises UNAUTHORIZED."""
    kind = resource_kind(code)
    resource = CLUSTER if kind is ResourceKind.CLUSTER else Resource(kind, name)
    if not call.broker.access.allows(call.caller, operation, resource):
        what = operation.name.lower().replace("_", " ")
        raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to {what} of {kind.name.lower()} {name!r}")


def check_broker_name(call: Call, name: str) -> None:
    """A broker is named by its id. Raises INVALID_REQUEST."""
    if name != str(call.broker.node_id):
        raise RiverlogError(
            ErrorKind.INVALID_REQUEST, f"{name!r} is not this broker: its id is {call.broker.node_id}"
        )


def check_nothing_to_alter(call: Call, kind: ConfigResourceType, name: str, config_names: Sequence[str]) -> None:
    """Of what is neither a topic nor a group nothing can be altered while it runs. Raises INVALID_REQUEST that says what to
    do instead."""
    check_access(call, Operation.ALTER_CONFIGS, kind, name)
    if kind is ConfigResourceType.BROKER and name:
        check_broker_name(call, name)
    if not config_names:
        return
    first = config_names[0]
    if kind is ConfigResourceType.BROKER:
        what = f"{first}: a broker's settings are read at its start; put it into the settings file and restart"
    else:
        what = f"{first}: riverlog keeps no configs of {kind.name.lower().replace('_', ' ')}s"
    raise RiverlogError(ErrorKind.INVALID_REQUEST, what)
