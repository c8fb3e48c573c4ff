"""Batches that are checked in one call: both twins stop at the same place, for the same reason."""

from __future__ import annotations

import threading
from types import ModuleType

import pytest

from riverlog.kernels import checking
from riverlog.kernels.results import Checked, WalkEnd
from riverlog.testing.conformance.log_engine import batch_of


@pytest.fixture(params=["checking", "compiled"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = pytest.importorskip(f"riverlog.kernels.{request.param}")
    return module


def batch(base_offset: int, *values: str, epoch: int = 3) -> bytes:
    made = bytearray(batch_of(*values))
    made[:8] = base_offset.to_bytes(8, "big", signed=True)
    made[12:16] = epoch.to_bytes(4, "big", signed=True)
    return bytes(made)


GOOD = batch(5, "a", "b") + batch(7, "c") + batch(20, "d" * 70_000)
FIRST = len(batch(5, "a", "b"))
SECOND = FIRST + len(batch(7, "c"))


def test_good_batches_are_walked_over(kernels: ModuleType) -> None:
    check = kernels.check_batches
    assert check(b"") == Checked(0, WalkEnd.END, -1, -1, 0)
    for buffer in (GOOD, bytearray(GOOD), memoryview(GOOD)):
        assert check(buffer) == Checked(len(GOOD), WalkEnd.END, 21, 3, 3)
    assert check(GOOD, FIRST, 7, 3) == Checked(len(GOOD), WalkEnd.END, 21, 3, 2)
    assert check(GOOD, len(GOOD), 21, 3) == Checked(len(GOOD), WalkEnd.END, 21, 3, 0)


def test_it_stops_where_the_buffer_ends(kernels: ModuleType) -> None:
    check = kernels.check_batches
    for end in range(FIRST + 1, SECOND):
        stopped = WalkEnd.HEADER_CUT if end < FIRST + 61 else WalkEnd.BATCH_CUT
        assert check(GOOD[:end]) == Checked(FIRST, stopped, 7, 3, 1)
    for position in (-1, len(GOOD) + 1):
        with pytest.raises(ValueError, match="lies outside a buffer"):
            check(GOOD, position)


def test_every_flipped_bit_under_the_crc_is_found(kernels: ModuleType) -> None:
    for at in range(FIRST, SECOND):
        damaged = bytearray(GOOD[:SECOND])
        damaged[at] ^= 0x10
        found = kernels.check_batches(damaged)
        if at >= FIRST + 17:
            assert found.end == FIRST, at
            assert found.stopped in (WalkEnd.CRC, WalkEnd.HEADER)
        assert found == checking.check_batches(damaged), at


@pytest.mark.parametrize(
    ("base_offset", "epoch", "stopped"),
    [
        (6, 3, WalkEnd.HEADER),
        (-1, 3, WalkEnd.HEADER),
        (7, 2, WalkEnd.HEADER),
        (7, 4, WalkEnd.END),
        (99, 3, WalkEnd.END),
    ],
)
def test_offsets_ascend_and_epochs_do_not_fall(
    kernels: ModuleType, base_offset: int, epoch: int, stopped: WalkEnd
) -> None:
    buffer = batch(5, "a", "b") + batch(base_offset, "c", epoch=epoch)
    assert kernels.check_batches(buffer).stopped is stopped


def test_where_offsets_are_dense_a_gap_is_a_defect(kernels: ModuleType) -> None:
    assert kernels.check_batches(GOOD, 0, 5, 0, True) == Checked(SECOND, WalkEnd.HEADER, 8, 3, 2)
    assert kernels.check_batches(GOOD, 0, -1, -1, dense=True).end == SECOND
    assert kernels.check_batches(GOOD, 0, 4, 0, True) == Checked(0, WalkEnd.HEADER, 4, 0, 0)


@pytest.mark.parametrize(
    ("at", "value", "stopped"),
    [(8, b"\0\0\0\x30", WalkEnd.LENGTH), (16, b"\1", WalkEnd.MAGIC), (57, b"\0\0\0\x02", WalkEnd.HEADER)],
)
def test_a_header_that_cannot_be_is_refused(kernels: ModuleType, at: int, value: bytes, stopped: WalkEnd) -> None:
    buffer = bytearray(batch(5, "a"))
    buffer[at : at + len(value)] = value
    assert kernels.check_batches(buffer) == Checked(0, stopped, -1, -1, 0)


def test_the_last_offset_there_is_ends_the_walk(kernels: ModuleType) -> None:
    last = batch(2**63 - 1, "a")
    assert kernels.check_batches(last) == Checked(len(last), WalkEnd.END, 2**63 - 1, 3, 1)


def test_the_compiled_one_lets_other_threads_run() -> None:
    compiled = pytest.importorskip("riverlog.kernels.compiled")
    buffer = batch(5, "x" * 1_000_000)
    found: list[Checked] = []
    threads = [threading.Thread(target=lambda: found.append(compiled.check_batches(buffer))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Checked(len(buffer), WalkEnd.END, 6, 3, 1)] * 4
