"""Where damage begins and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from riverlog.base.ids import LeaderEpoch, Offset
from riverlog.records.builder import build_batch
from riverlog.records.record import NewRecord
from riverlog.storage.damage_search import Expected, Region, find_damage
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs


def content(*offsets: int) -> bytes:
    return b"".join(
        bytes(build_batch([NewRecord(1, b"k", b"v")] * 2, base_offset=at, leader_epoch=0)) for at in offsets
    )


@pytest.mark.parametrize(
    ("batches", "gaps", "regions"),
    [
        ((0, 2, 4), False, []),
        ((0, 4), False, [(1, 1, 2, 4)]),
        ((0, 2), False, [(2, 2, 4, 6)]),
        ((0, 2, 4, 6), False, [(3, 4, 6, 6)]),
        ((0, 4), True, []),
        ((0, 0, 2, 4), False, [(1, 2, 2, 2)]),
    ],
)
def test_regions(tmp_path: Path, batches: Sequence[int], gaps: bool, regions: list[tuple[int, int, int, int]]) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content(*batches))
    size = len(content(0))
    found = find_damage(str(path), Expected(0, 6, len(batches) * size, gaps))
    assert [(one.start // size, one.end // size, one.first_offset, one.next_offset) for one in found] == regions


def test_a_file_that_is_gone_is_one_region(tmp_path: Path) -> None:
    found = find_damage(str(tmp_path / "x.log"), Expected(7, 9, 100, False))
    assert found == [Region(0, 0, 7, 9, "the file is gone")]


def test_a_batch_of_another_epoch_than_is_noted_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content(0, 2, 4))
    epochs = LeaderEpochs([EpochEntry(LeaderEpoch(0), Offset(0)), EpochEntry(LeaderEpoch(3), Offset(4))])
    (found,) = find_damage(str(path), Expected(0, 6, path.stat().st_size, False), epochs)
    assert (found.first_offset, found.next_offset, found.what) == (4, 6, "leader epoch 0 where 3 is noted")


def test_the_next_good_batch_is_found_without_a_header_that_leads_to_it(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    junk = b"\2" * 1000
    path.write_bytes(content(0) + junk + content(2, 4))
    size = len(content(0))
    (found,) = find_damage(str(path), Expected(0, 6, 3 * size, False))
    assert found[:4] == (size, size + len(junk), 2, 2)
