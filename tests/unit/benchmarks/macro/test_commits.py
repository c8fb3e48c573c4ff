"""The engine is measured for real, little of it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.macro import commits


def test_a_process_of_its_own_tells_every_commit(tmp_path: Path) -> None:
    found = commits.run(tmp_path, partitions=3, count=2)
    assert len(found.appends) == len(found.commits) == len(found.plain) == 2
    assert all(time > 0 for time in (*found.commits, *found.plain))
    assert (tmp_path / "plain").stat().st_size == 2 * 3 * commits.batch_bytes
    logs = list(tmp_path.glob("engine/topics/*/*.log"))
    assert len(logs) == 3
    assert {path.stat().st_size for path in logs} == {(2 + commits.warm_up) * commits.batch_bytes}
