"""Addresses as people write them: `HOST:PORT`, `[::1]:9092`, and Kafka's `PLAINTEXT://HOST:PORT`. Resolves no name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_LOOPBACK_IPV4: Final = re.compile(r"127(\.\d{1,3}){3}")
_LISTENER: Final = re.compile(r"([A-Za-z0-9_.\-]+)://(.*)")
ANY_HOST: Final = "0.0.0.0"  # what an empty host means, as in Kafka


class HostPort(NamedTuple):
    """Where to listen or to connect. The host of an IPv6 address has no brackets; port 0 picks a free one."""

    host: str
    port: int

    @property
    def text(self) -> str:
        """`HOST:PORT`, with brackets where the host has colons."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(text: str) -> HostPort:
    """`HOST:PORT`. An empty host is every interface. Raises ValueError saying what to give."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError("give HOST:PORT with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets: [::1]:9092")
    if any(character.isspace() or character in "/@" for character in host):
        raise ValueError("give HOST:PORT")
    return HostPort(host or ANY_HOST, int(port))


def parse_listeners(text: str, *, controllers: Sequence[str] = (), protocols: str = "") -> HostPort:
    """The one plain listener of Kafka's `listeners` or `advertised.listeners`.

    Those that `controllers` names are passed over; `protocols` is `listener.security.protocol.map`. Raises ValueError
    saying what to give."""
    protocol_of = dict(part.strip().partition(":")[::2] for part in protocols.split(",") if part.strip())
    found: list[HostPort] = []
    for part in text.split(","):
        if (match := _LISTENER.fullmatch(part.strip())) is None:
            raise ValueError("give PLAINTEXT://HOST:PORT")
        name, address = match.groups()
        if name in controllers:
            continue
        if (protocol := protocol_of.get(name, name).upper()) != "PLAINTEXT":
            raise ValueError(
                f"listener {name} is {protocol}, and TLS and SASL are not built yet: give PLAINTEXT://HOST:PORT"
            )
        found.append(parse_host_port(address))
    if len(found) != 1:
        raise ValueError(f"it names {len(found)} listeners for clients: give one PLAINTEXT://HOST:PORT")
    return found[0]


def is_loopback(host: str) -> bool:
    """Can only this machine reach it? A name other than `localhost` counts as not."""
    return host in ("localhost", "::1") or _LOOPBACK_IPV4.fullmatch(host) is not None
