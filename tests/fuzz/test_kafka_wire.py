"""Whatever bytes come, a decoder gives a message or a DecodeError, a connection requests or a ProtocolError, and soon."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from typing import Any, Final

import pytest

from riverlog.gateways.kafka import wire
from riverlog.gateways.kafka.connection import BufferPool, Connection, ProtocolError
from riverlog.gateways.kafka.wire import DecodeError
from tests.properties.kafka_schema_values import MESSAGES, THOROUGH, build, class_of, decode, encode, versions_of
from tools.kafka_schema.definitions import NO_VERSIONS, Field, Struct

ROUNDS: Final = 400 if THOROUGH else 40
SEED: Final = int(os.environ.get("RIVERLOG_FUZZ_SEED", "2013"))
NASTY: Final = (0, 1, 0x7F, 0x80, 0xFF, 0xFE, 0x16)


def some_value(field: Field, dice: random.Random) -> Any:
    """Quicker and wilder than Hypothesis: the bytes are what matters here."""
    if field.nullable != NO_VERSIONS and dice.random() < 0.2:
        return None
    count = dice.randrange(3) if field.array else 1
    found = []
    for _ in range(count):
        if field.struct is not None:
            found.append(some_values(field.struct, dice))
        elif field.type == "bool":
            found.append(dice.random() < 0.5)
        elif field.type == "string":
            found.append(dice.choice(["", "a", "topic", "é" * 100]))
        elif field.type in ("bytes", "records"):
            found.append(dice.randbytes(dice.choice([0, 1, 20, 200])))
        elif field.type == "uuid":
            found.append(dice.randbytes(16))
        else:
            found.append(dice.choice([0, 1, 5, 100]))
    return found if field.array else found[0]


def some_values(struct_: Struct, dice: random.Random) -> dict[str, Any]:
    return {field.name: some_value(field, dice) for field in struct_.fields}


def mutations(body: bytes, dice: random.Random) -> Iterator[bytes]:
    """Cut, lengthened, with bytes changed, inserted, removed, and lengths made huge."""
    yield body[: dice.randrange(len(body) + 1)]
    yield body + dice.randbytes(dice.randrange(1, 9))
    changed = bytearray(body)
    for _ in range(dice.randrange(1, 4)):
        if changed:
            changed[dice.randrange(len(changed))] = dice.choice(NASTY) if dice.random() < 0.7 else dice.randrange(256)
    yield bytes(changed)
    at = dice.randrange(len(body) + 1)
    yield body[:at] + bytes(dice.choices(NASTY, k=dice.randrange(1, 6))) + body[at:]
    yield body[:at] + body[at + dice.randrange(1, 5) :]
    yield body[:at] + struct.pack(">i", dice.choice([2**31 - 1, -(2**31), -2, 2**16, 2**24])) + body[at + 4 :]
    yield body[:at] + b"\xff\xff\xff\xff" + bytes((dice.choice([7, 15, 127]),)) + body[at:]
    yield dice.randbytes(dice.randrange(40))


@pytest.mark.parametrize("name", MESSAGES)
def test_only_decode_errors_come_out(name: str) -> None:
    module, message = MESSAGES[name]
    dice = random.Random(f"{SEED} {name}")
    refused = 0
    for _ in range(ROUNDS):
        values = some_values(message.root, dice)
        for version in versions_of(message):
            body = encode(module, message, version, build(module, message.root, values, version))
            for bad in mutations(body, dice):
                try:
                    found = decode(module, message, version, bad)
                except DecodeError:
                    refused += 1
                else:
                    assert type(found) is class_of(module, message.root)
    assert refused


@pytest.mark.parametrize("name", [name for name, (_, message) in MESSAGES.items() if message.kind == "request"])
def test_a_body_that_is_cut_anywhere_is_refused(name: str) -> None:
    module, message = MESSAGES[name]
    dice = random.Random(f"{SEED} {name}")
    values = some_values(message.root, dice)
    for version in versions_of(message):
        body = encode(module, message, version, build(module, message.root, values, version))
        for stop in range(min(len(body), 300)):
            with pytest.raises(DecodeError):
                decode(module, message, version, body[:stop])


def frames(dice: random.Random) -> bytes:
    stream = b""
    for _ in range(dice.randrange(1, 5)):
        name = dice.choice([name for name, (_, message) in MESSAGES.items() if message.kind == "request"])
        module, message = MESSAGES[name]
        version = dice.choice(versions_of(message))
        value = build(module, message.root, some_values(message.root, dice), version)
        client_id = dice.choice([None, "", "rdkafka", "é" * 90])
        stream += wire.encode_request(module.api_key, version, dice.randrange(99), client_id, value)
    return stream


def outcome(pieces: Iterator[bytes]) -> tuple[list[str], str | None]:
    """What a connection makes of the pieces, bodies decoded, until it gives up."""
    connection = Connection(BufferPool(), request_bytes_max=100_000)
    found = []
    try:
        for piece in pieces:
            for request in connection.receive(piece):
                body = repr(request.decode()) if request.is_supported else "unsupported"
                found.append(f"{request.api_key} {request.version} {request.correlation_id} {request.client_id} {len(body)}")
    except ProtocolError as error:
        return found, str(error)
    return found, None


@pytest.mark.parametrize("round_", range(60 if not THOROUGH else 3000))
def test_a_connection_makes_the_same_of_any_cut(round_: int) -> None:
    dice = random.Random(SEED * 1_000_003 + round_)
    stream = frames(dice)
    assert outcome(iter([stream]))[1] is None
    for data in (stream, *mutations(stream, dice)):
        expected = outcome(iter([data]))
        assert outcome(data[i : i + 1] for i in range(len(data))) == expected
        size = dice.randrange(1, 50)
        assert outcome(data[i : i + size] for i in range(0, len(data), size)) == expected


def test_a_count_allocates_no_more_than_the_bytes_can_hold() -> None:
    """A count of two thousand million in a frame of a few bytes is refused before anything is made."""
    import tracemalloc

    body = b"\xff\xff\xff\xff\x07" + bytes(1000)
    wire.load_codecs([3])
    tracemalloc.start()
    with pytest.raises(DecodeError):
        wire.decode_request(3, 12, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
