"""Sizes as people read them."""

from __future__ import annotations

import pytest

from riverlog.base.units import GIB, KIB, MIB, format_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (MIB, "1.0 MiB"), (3 * GIB, "3.0 GiB"), (5000 * GIB, "4.9 TiB"),
     (-2 * KIB, "-2.0 KiB")],
)  # fmt: skip
def test_format_bytes(size: int, text: str) -> None:
    assert format_bytes(size) == text
