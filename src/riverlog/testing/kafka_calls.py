"""Calls of Kafka handlers on a broker without a socket. Request and answer go through the codec of their version, so that a
field which that version does not have is lost on the way, as it would be with a client."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any

from riverlog.broker.broker import Broker
from riverlog.broker.produce import Lane
from riverlog.gateways.kafka.dispatch import HANDLERS, Address, Call, load_handlers
from riverlog.gateways.kafka.fetch_sessions import FetchSessions
from riverlog.gateways.kafka.schema.api_keys import VERSIONS, ApiKey
from riverlog.gateways.kafka.wire import Message, decode_request, decode_response, encode_request, encode_response
from riverlog.state.access import Caller
from riverlog.storage.contract import FileRegion

CALLER = Caller("User:ANONYMOUS", "test", "kafka", "127.0.0.1:50000")
ADDRESS = Address("127.0.0.1", 9092)


class Calls:
    """One client's calls of one broker."""

    def __init__(self, broker: Broker) -> None:
        load_handlers()
        self.broker = broker
        self.lane = Lane()
        self.sessions = FetchSessions(broker.settings.fetch_sessions_max, broker.entropy.below)

    async def ask(self, api_key: ApiKey, version: int, request: Message) -> Any:
        """The answer as a client decodes it; None where there is none. Raises what the handler raises."""
        assert version in HANDLERS[api_key].versions, f"{api_key.name} v{version} is not served"
        frame = encode_request(api_key, version, 1, "test", request)
        message = decode_request(api_key, version, frame, _body_position(api_key, version))
        call = Call(self.broker, CALLER, version, ADDRESS, self.lane, self.sessions)
        response = HANDLERS[api_key].function(call, message)
        if isinstance(response, Awaitable):
            response = await response
        if response is None:
            return None
        parts = encode_response(api_key, version, 1, response)
        data = b"".join(_bytes_of(part) for part in parts)
        return decode_response(api_key, version, data[4:])[1]


def _body_position(api_key: ApiKey, version: int) -> int:
    """Behind length, header and the client id "test"."""
    flexible = version >= VERSIONS[api_key][2]
    return 4 + 10 + 4 + (1 if flexible else 0)


def _bytes_of(part: Any) -> bytes:
    if isinstance(part, bytes | bytearray | memoryview):
        return bytes(part)
    data = b"".join(
        os.pread(inner.descriptor, inner.count, inner.position) if isinstance(inner, FileRegion) else bytes(inner)
        for inner in part.parts
    )
    part.close()
    return data
