"""What is cut off is kept."""

from __future__ import annotations

from riverlog.base.ids import Offset
from riverlog.env.files import write_file
from riverlog.storage.local.salvage import copy_bytes, remove_indexes, save_bytes, set_aside
from riverlog.testing.fakes import CrashableFiles


def made() -> CrashableFiles:
    files = CrashableFiles()
    files.make_directory("/d")
    return files


def test_bytes_are_copied_and_synced() -> None:
    files = made()
    data = bytes(range(256)) * (copy_bytes // 128)
    write_file(files, "/d/log", data)
    save_bytes(files, files.open("/d/log"), 5, len(data) - 7, "/d/saved")
    assert files.read("/d/saved") == data[5:-7]
    assert files.operations[-1].kind == "sync"


def test_zeros_are_not_kept() -> None:
    files = made()
    write_file(files, "/d/log", b"good" + bytes(100))
    save_bytes(files, files.open("/d/log"), 4, 104, "/d/saved")
    assert files.list("/d") == ["log"]


def test_segments_behind_a_cut_keep_their_bytes_under_another_name() -> None:
    files = made()
    for base in (5, 9):
        for suffix in ("log", "index", "timeindex"):
            write_file(files, f"/d/{base:020d}.{suffix}", b"12345")
    assert set_aside(files, "/d", [Offset(9)], 77) == 5
    assert files.list("/d") == [
        "00000000000000000005.index",
        "00000000000000000005.log",
        "00000000000000000005.timeindex",
        "00000000000000000009.log.cut-77",
    ]
    remove_indexes(files, "/d", Offset(5))
    assert files.list("/d") == ["00000000000000000005.log", "00000000000000000009.log.cut-77"]
