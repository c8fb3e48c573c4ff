"""The cache of what was fetched and built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers import cache


@pytest.fixture(autouse=True)
def cache_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIVERLOG_CACHE", str(tmp_path))
    return tmp_path


def test_an_entry_is_built_once() -> None:
    built: list[Path] = []

    def build(directory: Path) -> None:
        built.append(directory)
        (directory / "file").write_text("content")

    first, second = cache.cached("thing-1", build), cache.cached("thing-1", build)
    assert first == second
    assert (first / "file").read_text() == "content"
    assert len(built) == 1


def test_a_failed_build_leaves_no_entry(cache_in: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "half").write_text("")
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError, match="network"):
        cache.cached("thing-1", build)
    assert [path.name for path in cache_in.iterdir()] == ["thing-1.lock"]


def test_a_command_is_tried_again_until_it_works(tmp_path: Path) -> None:
    program = "import pathlib, sys; p = pathlib.Path('tries'); n = len(p.read_text()) if p.exists() else 0\n"
    program += "p.write_text('x' * (n + 1)); print('done' if n == 2 else 'not yet'); sys.exit(n < 2)"
    assert cache.run_with_retries([sys.executable, "-c", program], directory=tmp_path) == "done\n"
    assert (tmp_path / "tries").read_text() == "xxx"


def test_the_last_failure_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)failed 2 times.*no such host"):
        cache.run_with_retries([sys.executable, "-c", "raise SystemExit('no such host')"], attempts=2)
