"""Rows of one layout, one after another. The one place of this package that calls `Struct.iter_unpack`."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any


def rows(layout: Struct, data: bytes | bytearray | memoryview, start: int, end: int) -> Iterator[tuple[Any, ...]]:
    """What stands between `start` and `end`, which must be whole rows.

    Copied first: CPython (3.11.7 at least) dies in its garbage collector where a half-used iterator over a memoryview
    is part of a cycle, which an error with its traceback is. Damaged bytes must not do that.
    """
    return layout.iter_unpack(bytes(memoryview(data)[start:end]))
