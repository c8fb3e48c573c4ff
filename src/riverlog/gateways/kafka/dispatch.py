"""From an api key to its handler. The versions that a handler declares are the ones that ApiVersions announces.

A handler is a function of a `Call` and a decoded request. It gives the response (sent at once), an awaitable of it (sent when
done, in the order of the connection's requests), or None: no answer at all (Produce with acks=0).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.state.access import Caller

if TYPE_CHECKING:
    from riverlog.broker.broker import Broker
    from riverlog.broker.produce import Lane
    from riverlog.gateways.kafka.fetch_sessions import FetchSessions

Function = TypeVar("Function", bound=Callable[..., Any])


class Hangup(Exception):
    """The connection must be closed; the message is logged with the peer's address."""


class Address(NamedTuple):
    """Where clients reach this broker: what they were told to use, else the address that this client came in by."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request's surroundings."""

    broker: Broker
    caller: Caller
    version: int
    address: Address  # of this broker, for this client
    lane: Lane  # the order of this connection's appends
    sessions: FetchSessions


@dataclass(frozen=True, slots=True)
class Handler:
    api_key: ApiKey
    versions: range
    function: Callable[[Call, Any], Any | Awaitable[Any]]


HANDLERS: dict[int, Handler] = {}


def handles(api_key: ApiKey, versions: range) -> Callable[[Function], Function]:
    """Declares a handler. `versions` is a range: its end is not included."""

    def declare(function: Function) -> Function:
        assert api_key not in HANDLERS, f"{api_key.name} is handled twice"
        HANDLERS[api_key] = Handler(api_key, versions, function)
        return function

    return declare


def load_handlers() -> dict[int, Handler]:
    """Imports every file under `handlers/`."""
    from riverlog.gateways.kafka import handlers

    for module in pkgutil.iter_modules(handlers.__path__):
        importlib.import_module(f"{handlers.__name__}.{module.name}")
    return HANDLERS
