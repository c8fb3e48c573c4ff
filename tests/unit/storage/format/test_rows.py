"""Rows of one layout."""

import gc
from struct import Struct

from riverlog.storage.format.rows import rows

LAYOUT = Struct(">hi")


def test_rows_between_two_places() -> None:
    data = b"xx" + LAYOUT.pack(1, 2) + LAYOUT.pack(3, 4) + b"yy"
    for buffer in (data, bytearray(data), memoryview(data)):
        assert list(rows(LAYOUT, buffer, 2, 14)) == [(1, 2), (3, 4)]


def test_a_half_read_iterator_in_a_cycle_is_collected() -> None:
    """Over a memoryview of the caller's this ends the interpreter."""

    def half_read(view: memoryview) -> None:
        found = rows(LAYOUT, view, 0, 12)
        next(found)
        raise ValueError(found)

    for _ in range(50):
        try:
            half_read(memoryview(bytes(12)))
        except ValueError as error:
            cycle = [error]
            cycle.append(cycle)  # type: ignore[arg-type]  # a cycle on purpose
    gc.collect()
