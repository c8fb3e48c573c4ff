"""Any bytes at all: both twins end, with the same result or the same error, and read nothing outside their buffer.

That nothing outside is read is shown by giving the same bytes amid different neighbours: the answers must be the same.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from riverlog.kernels import reference
from riverlog.kernels.results import MalformedRecord

SEEDS = range(4)
ROUNDS = 600
SENTINELS = (b"\x00" * 80, b"\xff" * 80, b"\x02" * 80)


def outcome(call: Callable[..., Any], *arguments: object) -> object:
    """The result, or what the error says."""
    try:
        return call(*arguments)
    except MalformedRecord as error:
        return ("malformed", error.index, error.fault)
    except ValueError as error:
        return ("refused", str(error))


def amid(data: bytes) -> Iterator[memoryview]:
    for sentinel in SENTINELS:
        yield memoryview(bytearray(sentinel + data + sentinel))[len(sentinel) : len(sentinel) + len(data)]


def agree(data: bytes, call: Callable[[ModuleType, memoryview], Any], twins: list[ModuleType]) -> object:
    outcomes = [outcome(call, twin, view) for twin in twins for view in amid(data)]
    assert all(other == outcomes[0] for other in outcomes), (data.hex(), outcomes)
    return outcomes[0]


@pytest.fixture(scope="module")
def twins() -> list[ModuleType]:
    return [reference, pytest.importorskip("riverlog.kernels.compiled")]


def some_records(chance: random.Random) -> tuple[bytes, int]:
    count = chance.randrange(1, 6)
    records = [
        (
            chance.choice((0, -1, 70, 2**40, -(2**63), 2**63 - 1)),
            chance.choice((None, b"", b"key", bytes(70))),
            chance.choice((None, b"", b"value", bytes(130))),
            [(b"h" * chance.randrange(70), chance.choice((None, b"", b"x" * 70)))] * chance.choice((0, 0, 1, 2)),
        )
        for _ in range(count)
    ]
    return reference.encode_records(records), count


def mutated(chance: random.Random, data: bytes) -> bytes:
    """A few bytes set, cut out, put in, or the end cut off."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(len(out) + 1)
        match chance.randrange(5):
            case 0 if place < len(out):
                out[place] ^= 1 << chance.randrange(8)
            case 1 if place < len(out):
                out[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 2, 4))
            case 2:
                del out[place : place + chance.choice((1, 1, 2, 8))]
            case 3:
                out[place:place] = chance.choice((b"\xff" * 5, b"\x80" * 10, b"\x00", b"\x01", b"\xff\xff\xff\xff\x0f"))
            case _:
                del out[place:]
    return bytes(out)


def look_at_records(data: bytes, count: int, base: int, wanted: int, twins: list[ModuleType]) -> object:
    agree(data, lambda twin, view: twin.first_at_or_after(view, count, base, wanted), twins)
    agree(data, lambda twin, view: twin.max_timestamp(view, count, base), twins)
    agree(data, lambda twin, view: twin.first_null_key(view, count), twins)
    return agree(data, lambda twin, view: twin.record_spans(view, count), twins)


@pytest.mark.parametrize("seed", SEEDS)
def test_mutated_records(seed: int, twins: list[ModuleType]) -> None:
    chance = random.Random(seed)
    kinds = set()
    for _ in range(ROUNDS):
        data, count = some_records(chance)
        base = chance.choice((0, 1000, 2**63 - 1, -(2**63)))
        count = chance.choice((count, count, count, count + 1, count - 1, 2**31 - 1, -1))
        found = look_at_records(mutated(chance, data), count, base, chance.choice((0, 2**40, -(2**63))), twins)
        kinds.add(found[2] if isinstance(found, tuple) and found[0] == "malformed" else None)
    assert len(kinds) > 8  # it reached most faults, and none


@pytest.mark.parametrize("seed", SEEDS)
def test_random_bytes(seed: int, twins: list[ModuleType]) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        data = bytes(chance.choice((chance.randrange(256), 0, 1, 2, 14, 0xFF)) for _ in range(chance.randrange(60)))
        look_at_records(data, chance.choice((0, 1, 2, 9)), 0, 5, twins)
        count, position = chance.randrange(-1, 12), chance.randrange(-1, 70)
        agree(data, lambda twin, view, c=count, p=position: twin.read_varlongs(view, c, p), twins)
        agree(data, lambda twin, view: (twin.murmur2(view), twin.partition_for_key(view, 12)), twins)
        agree(data, lambda twin, view, p=position: twin.walk_batches(view, p), twins)


@pytest.mark.parametrize("seed", SEEDS)
def test_mutated_batches(seed: int, twins: list[ModuleType]) -> None:
    chance = random.Random(seed)
    stops = set()
    for _ in range(ROUNDS):
        data = b""
        for number in range(chance.randrange(4)):
            body = bytes(chance.randrange(4))
            data += struct.pack(">qiibIhiqqqhii", number, 49 + len(body), -1, 2, 2**32 - 1, -1, 0, -1, 1, -1, -1, -1, 1)
            data += body
        if chance.random() < 0.8:
            data = mutated(chance, data)
        found = agree(data, lambda twin, view: twin.walk_batches(view), twins)
        assert isinstance(found, tuple)
        stops.add(found[1])
    assert len(stops) == 5


def test_every_prefix_and_every_byte(twins: list[ModuleType]) -> None:
    """Systematically, on one small batch of records."""
    data = reference.encode_records([(5, b"k", None, [(b"h", b"")]), (-1, None, bytes(64), ())])
    for size in range(len(data)):
        look_at_records(data[:size], 2, 0, 5, twins)
    for place in range(24):
        for byte in range(256):
            changed = bytearray(data)
            changed[place] = byte
            agree(bytes(changed), lambda twin, view: twin.record_spans(view, 2), twins)
