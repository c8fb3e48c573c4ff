"""Reserved room, on a real file system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from riverlog.env import reserving


def test_blocks_are_there_and_the_size_is_not(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    try:
        if not reserving.reserve(descriptor, 1 << 20):
            pytest.skip("this file system cannot reserve")
        assert os.fstat(descriptor).st_size == 0
        assert os.fstat(descriptor).st_blocks * 512 >= 1 << 20
        os.ftruncate(descriptor, 0)
        assert os.fstat(descriptor).st_blocks == 0
    finally:
        os.close(descriptor)


def test_errors_are_told_but_for_systems_that_cannot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert reserving.reserve(-1, 0) is False
    if reserving.find_fallocate() is not None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            reserving.reserve(-1, 10)
    monkeypatch.setattr(reserving, "_fallocate", lambda *_: -1)
    monkeypatch.setattr(reserving.ctypes, "get_errno", lambda: errno.EOPNOTSUPP)
    assert reserving.reserve(3, 10) is False
    monkeypatch.setattr(reserving, "_fallocate", None)
    assert reserving.reserve(3, 10) is False
