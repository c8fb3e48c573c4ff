"""Any windows at all: both twins of the kernels of compaction end with the same answer, and read and write nothing outside
what they were given. The guard pages are those of test_records_guard_page.py, whose program this file is a part of."""

from __future__ import annotations

import random
import struct
from types import ModuleType
from typing import Any

import pytest

from riverlog.kernels import reference, thinning
from riverlog.kernels.results import IndexState, MalformedRecord

SEEDS = range(4)
ROUNDS = 250
KEYS = (None, b"", b"a", b"b", b"key", bytes(40))
SECRET = b"0123456789abcdef"


def some_batch(chance: random.Random, base_offset: int) -> bytes:
    """A batch, perhaps with a time, a count or offsets that cannot be, and mostly with a good CRC."""
    count = chance.randrange(5)
    records = [
        (
            chance.choice((0, 0, 1, -1, 70, 2**40, -(2**63), 2**63 - 1)),
            chance.choice(KEYS),
            chance.choice((None, b"", b"value", bytes(90))),
            [(b"h", None)] * chance.choice((0, 0, 1)),
        )
        for _ in range(count)
    ]
    deltas = sorted(chance.sample(range(8), count))
    body = bytearray(reference.encode_records(records, deltas))
    if body and not chance.randrange(5):
        body[chance.randrange(len(body))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    attributes = chance.choice((0, 0, 0, 0x40, 0x08, 0x48, 0x01, 0x10, 0x20))
    last_delta = chance.choice((7, 7, 7, 4, -1, 2**31 - 1))
    said = chance.choice((count, count, count, count, count + 1, -1, 2**31 - 1))
    base_time = chance.choice((0, 1000, 4999, 5001, -(2**63), 2**63 - 1))
    fields = (attributes, last_delta, base_time, chance.choice((-1, 900, 2**62)), -1, -1, -1, said)
    batch = (
        bytearray(struct.pack(">qiibIhiqqqhii", min(base_offset, 2**63 - 1), 49 + len(body), 3, 2, 0, *fields)) + body
    )
    crc = thinning.checksum(batch[21:]) if chance.randrange(12) else 0
    batch[17:21] = crc.to_bytes(4, "big")
    return bytes(batch)


def some_window(chance: random.Random) -> bytes:
    offset = chance.choice((0, 100, 2**63 - 9, -5))
    window = b"".join(some_batch(chance, offset + 8 * at) for at in range(chance.randrange(5)))
    if not chance.randrange(3):
        window = window[: chance.randrange(len(window) + 1)]
    return window


def answers(kernels: ModuleType, window: Any, seed: int, make_out: Any = bytearray) -> list[object]:
    """All that the functions say of a window, and what they wrote."""
    chance = random.Random(seed)
    known = kernels.OffsetMap(chance.choice((2, 4, 100)), SECRET)
    said: list[object] = [kernels.map_window(known, window, 0, chance.choice((0, 105, 2**62)))]
    said += [known.get(key) for key in KEYS if key is not None]
    said.append(len(known))
    for latest in (104, 2**63 - 1):
        room = make_out(chance.choice((0, 70, 400, 4000)))
        keep = sorted(chance.sample(range(100, 140), 6))
        horizon = chance.choice((9000, 2**63 - 1))
        done = kernels.thin_window(known, window, 0, room, latest, keep, 5000, horizon, 100, IndexState())
        said += [done, bytes(room[: done.written])]
    for count in (0, 1, 3, 2**31 - 1):
        for call in (
            lambda n: kernels.map_records(known, window[61:], n, 7, 100, 103),
            lambda n: kernels.thin_records(known, window[61:], n, 7, 100, 1000, 104, True),
            lambda n: kernels.rebase_records(window[61:], n, 1000, 2**40),
        ):
            try:
                said.append(call(count))
            except MalformedRecord as error:
                said.append((error.index, error.fault))
    return said


@pytest.mark.parametrize("seed", SEEDS)
def test_any_window(seed: int) -> None:
    compiled = pytest.importorskip("riverlog.kernels.compiled")
    chance = random.Random(seed)
    stops = set()
    for _ in range(ROUNDS):
        window = some_window(chance)
        number = chance.randrange(2**32)
        expected = answers(thinning, window, number)
        for sentinel in (b"\x00" * 80, b"\xff" * 80):
            view = memoryview(bytearray(sentinel + window + sentinel))[80 : 80 + len(window)]
            assert answers(compiled, view, number) == expected, window.hex()
        stops |= {one.stopped for one in expected if hasattr(one, "written")}  # type: ignore[attr-defined]
    assert len(stops) >= 4  # it came to most ends


@pytest.mark.parametrize("seed", SEEDS)
def test_the_map_as_its_twin(seed: int) -> None:
    compiled = pytest.importorskip("riverlog.kernels.compiled")
    chance = random.Random(seed)
    maps = [twin.OffsetMap(64, SECRET) for twin in (thinning, compiled)]
    for _ in range(2000):
        key, offset = b"%d" % chance.randrange(60), chance.randrange(1000)
        assert len({(one.put(key, offset), one.get(key), len(one)) for one in maps}) == 1


def look_beside_guards(page: memoryview, placed: Any, rounds: int) -> None:
    """Windows that end, and begin, at a page without permission; the output does too."""
    from riverlog.kernels import compiled

    chance = random.Random(2)
    for number in range(rounds):
        window = some_window(chance)[: len(page)]
        expected = answers(thinning, window, number)
        for view in placed(page, window):
            assert answers(compiled, view, number) == expected
        for size in (70, 400):  # `out` at the guard: nothing is written behind it
            known = compiled.OffsetMap(8, SECRET)
            for view in placed(page, bytes(size)):
                compiled.thin_window(known, window, 0, view, 2**62, [], 5000, 9000, 100, IndexState())
