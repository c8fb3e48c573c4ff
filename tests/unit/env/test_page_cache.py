"""The questions to the kernel give what the kernel says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from riverlog.env import page_cache


@pytest.mark.parametrize("name", ["cachestat_probe", "mincore_probe"])
def test_residency_is_asked_of_the_kernel(name: str, tmp_path: Path) -> None:
    if (probe := getattr(page_cache, name)()) is None:
        pytest.skip("this kernel has no cachestat(2)")
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        assert os.pread(descriptor, 100_000, 0)
        assert probe(descriptor, 50_001, 30_000)
        assert probe(descriptor, 0, 1)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if probe(descriptor, 0, 100_000):
            pytest.skip("the kernel keeps the pages all the same (tmpfs does)")
        os.pread(descriptor, 1, 0)
        assert probe(descriptor, 0, 1)
    finally:
        os.close(descriptor)
    assert not probe(descriptor, 0, 1)


def test_the_filesystem_of_a_descriptor_is_synced(tmp_path: Path) -> None:
    if (syncfs := page_cache.find_syncfs()) is None:
        pytest.skip("this system has no syncfs(2)")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert syncfs(descriptor) == 0
    finally:
        os.close(descriptor)
    assert syncfs(descriptor) == -1
