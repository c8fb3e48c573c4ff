"""The Kafka gateway: requests from sockets to handlers, answers back in their order, and the limits on what is in flight.

Invariant: every request that is read gets its slot at once, so answers leave in order whatever their handlers wait for. Reading
pauses while a connection has too much in flight, while all of them together have, and while the engine has no room.
Over the limit of all together (`queued.max.request.bytes`) connections with little in flight go on, and of those with more one
at a time has its turn: half a frame that never ends cannot stop everybody.
A peer that does not speak Kafka costs itself its connection, and one log line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from riverlog.base.errors import RiverlogError
from riverlog.base.units import KIB
from riverlog.broker.broker import Broker
from riverlog.broker.produce import Lane
from riverlog.broker.telemetry import RequestCounters
from riverlog.catalog.contract import CatalogUnavailable
from riverlog.env.sockets import Transport, unmapped
from riverlog.env.tasks import Tasks
from riverlog.gateways.kafka.buffer_pool import BufferPool, frame_bytes_first_max
from riverlog.gateways.kafka.connection import (
    Connection,
    ProtocolError,
    Request,
    Slot,
    unsupported_version_answer,
)
from riverlog.gateways.kafka.dispatch import HANDLERS, Address, Call, Hangup
from riverlog.gateways.kafka.fetch_sessions import FetchSessions
from riverlog.gateways.kafka.pacing import PACED_KEYS, Bucket, Pace, member_of
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.wire import encode_response
from riverlog.state.access import Caller

log = logging.getLogger(__name__)

# Why a socket is not read, besides its peer being slow:
IN_FLIGHT: Final = 2
ALL_IN_FLIGHT: Final = 4
NO_ROOM: Final = 8
STOPPING: Final = 16
PACED: Final = 32
turn_seconds: Final = 0.1  # without a byte after which the turn of a connection with much in flight ends, and
turns_in_a_row_max: Final = 10  # so many of them with bytes
short_read_bytes: Final = 16 * KIB  # that are read at a time, and held for a new frame, while there is too much


class KafkaGateway:
    """What all Kafka connections of one broker share."""

    def __init__(self, broker: Broker, tasks: Tasks, advertised: Address | None = None) -> None:
        self.broker = broker
        self.tasks = tasks
        self.advertised = advertised
        self.pool = BufferPool()
        self.served = {key: handler.versions for key, handler in HANDLERS.items()}
        self.sessions = FetchSessions(broker.settings.fetch_sessions_max, broker.entropy.below)
        self.pace = Pace(broker.clock, tasks, broker.telemetry)
        self.bytes_in_flight = 0
        self.open: set[KafkaSession] = set()
        self.bytes_in_flight_max = broker.settings.bytes_in_flight_max
        self.waiting: set[KafkaSession] = set()  # for bytes in flight of others
        self.turn: KafkaSession | None = None  # who may go on although there is too much, and has much itself
        self.short_buffer = memoryview(bytearray(short_read_bytes))
        self._turn_ends: asyncio.TimerHandle | None = None
        self.stopping = False

    def session(self, transport: Transport) -> KafkaSession:
        session = KafkaSession(self, transport)
        self.open.add(session)
        if self.stopping:
            transport.pause(STOPPING)
        return session

    def address(self, transport: Transport) -> Address:
        """By which that client reaches this broker: what it was told to use, else the one it came in by."""
        if self.advertised is None:
            return Address(unmapped(transport.local[0]), transport.local[1])
        return self.advertised if self.advertised.port else Address(self.advertised.host, transport.local[1])

    def moved(self, difference: int) -> None:
        """Bytes in flight of all connections went up or down."""
        self.bytes_in_flight += difference
        if self.bytes_in_flight >= self.bytes_in_flight_max:
            self.pool.frame_bytes_first = short_read_bytes
        elif self.pool.frame_bytes_first == short_read_bytes:
            self.pool.frame_bytes_first = frame_bytes_first_max
            self._let_all_read()

    def may_read(self, session: KafkaSession) -> bool:
        """Whether a session may read more although there is too much in flight. False: it is resumed when it may."""
        if self.turn is session or not self.has_much(session):
            return True
        if self.turn is None:
            self.turn = session
            self._look_later(session, turns_in_a_row_max)
            return True
        self.waiting.add(session)
        return False

    def _look_later(self, session: KafkaSession, left: int) -> None:
        seen = session.transport.bytes_in

        def look() -> None:
            if left > 1 and session.transport.bytes_in != seen:
                self._look_later(session, left - 1)
            else:
                self.end_turn(session)

        self._turn_ends = asyncio.get_running_loop().call_later(turn_seconds, look)

    def end_turn(self, session: KafkaSession) -> None:
        """It has little in flight by now, or took long enough: the turn of the next who has something to be read."""
        if self.turn is session:
            self._let_all_read()

    def has_much(self, session: KafkaSession) -> bool:
        """More than its share: what each may have whatever the others have, together half of the limit."""
        return session.counted > self.bytes_in_flight_max // (2 * max(1, len(self.open)))

    def _let_all_read(self) -> None:
        self.turn = None
        if self._turn_ends is not None:
            self._turn_ends.cancel()
            self._turn_ends = None
        waiting, self.waiting = self.waiting, set()
        for session in waiting:
            session.transport.resume(ALL_IN_FLIGHT)

    def stop_reading(self) -> None:
        self.stopping = True
        for session in self.open:
            session.transport.pause(STOPPING)

    @property
    def busy(self) -> bool:
        """Something is unanswered, or not sent yet."""
        return any(session.connection.requests_in_flight or not session.transport.idle for session in self.open)


class KafkaSession:
    """One connection."""

    __slots__ = (
        "_active_ms", "_address", "_bytes_in", "_callers", "_granted", "_room", "connection", "counted", "gateway", "lane",
        "pending", "strangers", "transport",
    )  # fmt: skip

    def __init__(self, gateway: KafkaGateway, transport: Transport) -> None:
        self.gateway = gateway
        self.transport = transport
        self.connection = Connection(
            gateway.pool,
            served=gateway.served,
            request_bytes_max=gateway.broker.settings.request_bytes_max,
            requests_in_flight_max=gateway.broker.settings.requests_in_flight_max,
        )
        self.lane = Lane()
        self.pending: set[asyncio.Future[Any]] = set()
        self.counted = 0  # our part of the gateway's bytes in flight
        self._callers: tuple[str | None, Caller] | None = None
        self._address = gateway.address(transport)
        self._room: asyncio.Future[None] | None = None
        self._granted = False  # the next request of a member may go, however many there were
        self.strangers: Bucket | None = None
        self._bytes_in = 0
        self._active_ms = gateway.broker.clock.monotonic_ms()

    # what the transport calls

    def input_buffer(self) -> memoryview | None:
        gateway = self.gateway
        if gateway.bytes_in_flight < gateway.bytes_in_flight_max:
            return self.connection.buffer_for_input()
        if not gateway.may_read(self):
            self.transport.pause(ALL_IN_FLIGHT)
            return None
        into = self.connection.buffer_for_input()
        return gateway.short_buffer if into is None else into

    def received(self, data: memoryview) -> None:
        self._take(data)
        self._go_on()

    def drained(self) -> None:
        self._go_on()

    def closed(self) -> None:
        self.connection.close()
        if self.pending:  # in the next turn, so that what has just come begins: a task that is cancelled before awaits nothing
            asyncio.get_running_loop().call_soon(self._cancel_pending)
        if self._room is not None:
            self._room.cancel()
        gateway = self.gateway
        gateway.open.discard(self)
        gateway.waiting.discard(self)
        gateway.moved(-self.counted)
        self.counted = 0
        gateway.end_turn(self)

    def _cancel_pending(self) -> None:
        for future in list(self.pending):
            future.cancel()

    # requests

    def _take(self, data: memoryview) -> None:
        """Answers the requests that `data` completes, as many as may be in flight."""
        try:
            for request in self.connection.receive(data):
                self._answer(request)
        except ProtocolError as error:
            self.gateway.broker.telemetry.protocol_errors += 1
            self._hang_up(str(error))
            return
        except Hangup as error:
            self._hang_up(str(error))
            return
        self.connection.reclaim()
        parts = self.connection.data_to_send()
        if parts:
            self.transport.send(parts)  # type: ignore[arg-type]  # the parts that are no memory are storage's Slices

    def _go_on(self) -> None:
        """Takes the requests that came with too many others, when there is place for them; then minds the limits."""
        connection = self.connection
        requests_max = self.gateway.broker.settings.requests_in_flight_max
        while connection.held is not None and connection.requests_in_flight < requests_max:
            if self.transport.closing or self.transport.paused & (Transport.PEER_IS_SLOW | NO_ROOM | PACED):
                break
            self._take(connection.take_held())
        self._mind_limits()

    def _answer(self, request: Request) -> None:
        broker = self.gateway.broker
        key = request.api_key
        if not request.is_supported:
            self._refuse_version(request)
            return
        message = request.decode()
        if key in PACED_KEYS and not self._is_its_turn(message):
            self.connection.put_back(request)
            return
        counters = broker.telemetry.requests.get(key) or broker.telemetry.request(key)
        counters.count += 1
        counters.bytes_in += len(request.frame)
        call = Call(
            broker, self._caller(request.client_id), request.version, self._address, self.lane, self.gateway.sessions
        )
        slot = self.connection.expect(len(request.frame))
        try:
            response = HANDLERS[key].function(call, message)
            if isinstance(response, Awaitable):
                self._answer_later(slot, key, request.version, request.correlation_id, response)
            elif response is None:
                slot.fill(())
            else:
                slot.fill(self._encode(key, request.version, request.correlation_id, response, counters))
        except Hangup:
            raise
        except Exception as error:
            self._failed(request.api_key, error)
            raise Hangup("an internal error, logged above") from None

    def _is_its_turn(self, message: Any) -> bool:
        """Whether a member's request may go. False: the connection is not read until it may (`may_go`)."""
        pace, group_id, member_id = self.gateway.pace, message.group_id, member_of(message)
        if self._granted:
            self._granted = False
            pace.went(group_id, member_id)
        elif not pace.take(group_id, member_id, self):
            self.transport.pause(PACED)
            return False
        return True

    def may_go(self) -> bool:
        if self.transport.closing:
            return False
        self._granted = True
        self.transport.resume(PACED)
        self._go_on()
        return True

    def _encode(
        self, api_key: int, version: int, correlation_id: int, response: Any, counters: RequestCounters
    ) -> Sequence[Any]:
        code = getattr(response, "error_code", 0)
        if code:
            counters.errors[ErrorCode(code).name] += 1
        return encode_response(api_key, version, correlation_id, response)

    def _refuse_version(self, request: Request) -> None:
        answer = unsupported_version_answer(request, self.gateway.served.get(request.api_key))
        if answer is None:
            name = ApiKey(request.api_key).name
            raise ProtocolError(f"version {request.version} of {name} is not served; ask ApiVersions first")
        self.connection.expect().fill(answer)

    def _caller(self, client_id: str | None) -> Caller:
        """Kept from one request to the next: a client's id seldom changes."""
        if self._callers is None or self._callers[0] != client_id:
            self._callers = (client_id, Caller("User:ANONYMOUS", client_id or "", "kafka", self.transport.peer))
        return self._callers[1]

    # answers that come later

    def _answer_later(
        self, slot: Slot, api_key: int, version: int, correlation_id: int, response: Awaitable[Any]
    ) -> None:
        if isinstance(response, asyncio.Future):
            future = response
        else:
            future = asyncio.get_running_loop().create_task(_await(response), name=f"kafka {api_key}")
        self.pending.add(future)

        def done(future: asyncio.Future[Any]) -> None:
            self.pending.discard(future)
            if future.cancelled():
                if not self.connection.is_closed:
                    self.transport.close()
                return
            if (error := future.exception()) is not None:
                if isinstance(error, Hangup):
                    self._hang_up(str(error))
                else:
                    self._failed(api_key, error)
                    self._hang_up("an internal error, logged above")
                return
            result = future.result()
            counters = self.gateway.broker.telemetry.request(api_key)
            try:
                parts = () if result is None else self._encode(api_key, version, correlation_id, result, counters)
            except Exception as encode_error:
                self._failed(api_key, encode_error)
                self._hang_up("an internal error, logged above")
                return
            if slot.fill(parts):
                self.transport.send(self.connection.data_to_send())  # type: ignore[arg-type]  # as in _take
            self._go_on()

        future.add_done_callback(done)

    def _failed(self, api_key: int, error: BaseException) -> None:
        self.gateway.broker.telemetry.internal_errors += 1
        if isinstance(error, CatalogUnavailable | RiverlogError):
            log.error("kafka: %s from %s failed: %s", ApiKey(api_key).name, self.transport.peer, error)
        else:
            log.error("kafka: %s from %s failed", ApiKey(api_key).name, self.transport.peer, exc_info=error)

    def _hang_up(self, reason: str) -> None:
        if not self.transport.closing:
            log.warning("kafka: connection from %s closed: %s", self.transport.peer, reason)
            self.transport.close()

    # limits

    def _mind_limits(self) -> None:
        connection = self.connection
        transport = self.transport
        gateway = self.gateway
        if transport.closing:
            return
        if (difference := connection.bytes_in_flight - self.counted) != 0:
            self.counted += difference
            gateway.moved(difference)
            if gateway.turn is self and not gateway.has_much(self):
                gateway.end_turn(self)
        if connection.held is not None or connection.requests_in_flight >= gateway.broker.settings.requests_in_flight_max:
            transport.pause(IN_FLIGHT)
        elif transport.paused & IN_FLIGHT:
            transport.resume(IN_FLIGHT)
        if self._room is None and (room := gateway.broker.engine.room()) is not None:
            transport.pause(NO_ROOM)
            self._room = asyncio.get_running_loop().create_task(_await(room), name="room")
            self._room.add_done_callback(self._there_is_room)

    def _there_is_room(self, _: asyncio.Future[None]) -> None:
        self._room = None
        if not self.transport.closing:
            self.transport.resume(NO_ROOM)
            self._go_on()

    def idle_ms(self, now_ms: int) -> int:
        """Milliseconds since something was last seen of the client. It is not idle while a request is in flight, nor while
        we do not read what it sends."""
        waits = self.connection.requests_in_flight or self.transport.paused & ~Transport.PEER_IS_SLOW
        if self.transport.bytes_in != self._bytes_in or waits:
            self._bytes_in = self.transport.bytes_in
            self._active_ms = now_ms
        return now_ms - self._active_ms


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
