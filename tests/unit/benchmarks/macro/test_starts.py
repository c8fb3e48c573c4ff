"""What a directory takes on the disk."""

from __future__ import annotations

from pathlib import Path

from benchmarks.macro.starts import blocks_bytes


def test_blocks_count_and_not_sizes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "full").write_bytes(b"x" * 10_000)
    assert 10_000 <= blocks_bytes(tmp_path) < 1 << 20
    assert blocks_bytes(tmp_path, "spar*") == 0
