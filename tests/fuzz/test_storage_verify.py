"""`verify` and `dump` over damaged directories: any flipped bit is found, no damage ends them with a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.base.ids import NodeId
from riverlog.storage.format import checkpoint, meta, names
from riverlog.storage.inspect import dump, verify
from tests.partition_files import PartitionWriter


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cleanly stopped: two sealed segments, an active one, a producer."""
    root = tmp_path_factory.mktemp("data")
    writer = PartitionWriter(root / names.TOPICS / "flights-0").start()
    writer.segment(6, 3, producer_id=7)
    writer.segment(6, 3, producer_id=7)
    active = writer.segment(4, 3, producer_id=7, keep=False)
    (root / names.META).write_bytes(meta.encode(meta.Meta("cluster", NodeId(0), 1)))
    (root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(True, 1, [writer.mark(active)])))
    assert list(verify(str(root))) == []
    return root


def files(root: Path) -> Iterator[Path]:
    """All whose every bit counts (in meta.json the name of the cluster may be any)."""
    yield root / names.CHECKPOINT
    yield from sorted(path for path in (root / names.TOPICS).rglob("*") if path.is_file() and path.stat().st_size)


@settings(derandomize=True, max_examples=600, deadline=None)
@given(st.integers(0, 20), st.integers(0, 2**20), st.integers(0, 7))
def _flip_is_found(root: Path, file: int, at: int, bit: int) -> None:
    there = list(files(root))
    path = there[file % len(there)]
    good = path.read_bytes()
    damaged = bytearray(good)
    damaged[at % len(good)] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        assert any(not problem.is_note for problem in verify(str(root))), (path.name, at % len(good), bit)
        list(dump(str(path), records=True))
    finally:
        path.write_bytes(good)


def test_any_flipped_bit_is_found(root: Path) -> None:
    _flip_is_found(root)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, 20), st.integers(0, 2**20), st.binary(max_size=300), st.booleans())
def _anything_is_survived(root: Path, file: int, at: int, more: bytes, clean: bool) -> None:
    there = list(files(root))
    path = there[file % len(there)]
    good = path.read_bytes()
    path.write_bytes(good[: at % (len(good) + 1)] + more)
    mark = checkpoint.decode((root / names.CHECKPOINT).read_bytes()) if path.name != names.CHECKPOINT else None
    try:
        if mark is not None:
            (root / names.CHECKPOINT).write_bytes(checkpoint.encode(mark._replace(clean=clean)))
        for problem in verify(str(root)):
            assert str(problem)
        for line in dump(str(path), records=True):
            assert "\n" not in line
    finally:
        path.write_bytes(good)
        if mark is not None:
            (root / names.CHECKPOINT).write_bytes(checkpoint.encode(mark))


def test_no_damage_ends_with_a_traceback(root: Path) -> None:
    _anything_is_survived(root)
