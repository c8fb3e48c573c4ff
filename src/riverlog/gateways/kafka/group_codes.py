"""Error codes of answers that speak of groups and of topics' partitions, from tables made once."""

from __future__ import annotations

from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.errors import error_code
from riverlog.state.access import ResourceKind

_OF_GROUP: Final[dict[ErrorKind | None, int]] = {
    kind: int(error_code(RiverlogError(kind, ""), ResourceKind.GROUP)) for kind in ErrorKind
} | {None: 0}
_OF_TOPIC: Final[dict[ErrorKind | None, int]] = {
    kind: int(error_code(RiverlogError(kind, ""), ResourceKind.TOPIC)) for kind in ErrorKind
} | {None: 0}


def group_code(kind: ErrorKind | None) -> int:
    return _OF_GROUP[kind]


def topic_code(kind: ErrorKind | None) -> int:
    """Of one partition: UNAUTHORIZED is about its topic."""
    return _OF_TOPIC[kind]
