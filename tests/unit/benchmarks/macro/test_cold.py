"""What the benchmark of old reads asks of the operating system."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.macro import cold
from riverlog.env.files import RealFiles


def test_segments_are_out_of_the_page_cache_afterwards(tmp_path: Path) -> None:
    (tmp_path / "cold-0").mkdir()
    path = tmp_path / "cold-0" / "0.log"
    path.write_bytes(os.urandom(1 << 20))
    assert cold.segments(tmp_path) == [path]
    file = RealFiles().open(str(path))
    try:
        assert file.resident(0, 1 << 20)
        cold.evict(tmp_path)
        assert not file.resident(0, 1 << 20)
    finally:
        file.close()


def test_what_a_process_read_from_disks_is_known() -> None:
    assert cold.disk_bytes(os.getpid()) >= 0
