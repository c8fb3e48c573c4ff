"""Batches of a file, in bounded memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from riverlog.storage import windows
from riverlog.storage.format.errors import FormatError
from riverlog.storage.windows import stored_batches
from tests.partition_files import headers_of, make_batch, simple_records

LOG = b"".join(make_batch(at * 3, simple_records(3, 1000, size=at * 40)) for at in range(40))


def test_windows_of_any_size_give_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    for window_bytes in (61, 200, 1000, 1_000_000):
        monkeypatch.setattr(windows, "WINDOW_BYTES", window_bytes)
        with path.open("rb") as file:
            found = [(batch.position, batch.header, bytes(batch.data), batch.crc_ok) for batch in stored_batches(file)]
        assert [header for _, header, _, _ in found] == headers_of(LOG)
        assert b"".join(data for _, _, data, _ in found) == LOG
        assert all(ok for _, _, _, ok in found)


def test_a_range_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    first, second = headers_of(LOG)[:2]
    with path.open("rb") as file:
        found = [batch.header for batch in stored_batches(file, first.size, first.size + second.size)]
    assert found == [second]


def test_what_is_no_batch_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for tail in (LOG[:30], LOG[:90], bytes(61), b"\xff" * 61, LOG[:16] + b"\x01" + LOG[17:200]):
        path.write_bytes(LOG + tail)
        count = 0
        with path.open("rb") as file, pytest.raises(FormatError) as raised:
            for _ in stored_batches(file):
                count += 1
        assert (raised.value.position, count) == (len(LOG), 40)


def test_a_large_segment_is_never_in_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    reads: list[int] = []
    pread = os.pread

    def counted(descriptor: int, count: int, position: int) -> bytes:
        reads.append(count)
        return pread(descriptor, count, position)

    monkeypatch.setattr(windows, "WINDOW_BYTES", 6000)
    monkeypatch.setattr(os, "pread", counted)
    with path.open("rb") as file:
        assert sum(1 for _ in stored_batches(file)) == 40
    assert max(reads) <= 6000
    assert sum(reads) < 2 * len(LOG)
