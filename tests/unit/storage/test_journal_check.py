"""Every byte of a live record of the journal is held by something; what lies behind the last one is free space."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.base.ids import LeaderEpoch, Offset, PartitionId, TopicId
from riverlog.storage.format import journal
from riverlog.storage.format.journal import BLOCK_BYTES, Entry
from riverlog.storage.journal_check import check_journal

TOPIC = TopicId(b"t" * 16)


def record(sequence: int, *lengths: int, generation: int = 4) -> bytes:
    entries = [
        Entry(PartitionId(TOPIC, at), LeaderEpoch(1), Offset(5), Offset(9), Offset(0), 70, length, 0)
        for at, length in enumerate(lengths)
    ]
    buffer = bytearray(journal.record_bytes(len(entries), sum(lengths)))
    start = journal.data_start(len(entries))
    buffer[start : start + sum(lengths)] = bytes(at % 251 for at in range(sum(lengths)))
    assert journal.seal(buffer, generation, sequence, entries) == len(buffer)
    return bytes(buffer)


def write(directory: Path, *records: bytes, name: str = "awaited-0", tail: bytes = b"") -> Path:
    path = directory / name
    path.write_bytes(journal.encode_file_header(4) + b"".join(records) + tail)
    return path


def test_whole_records_and_what_an_earlier_turn_left_behind_them(tmp_path: Path) -> None:
    write(tmp_path, record(8, 300, 20), record(9, 5000), tail=record(2, 10) + record(3, 10)[:1000])
    write(tmp_path, record(5, 1), name="bulk-1")
    assert list(check_journal(str(tmp_path), clean=True)) == []
    assert list(check_journal(str(tmp_path), clean=False)) == []


@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_byte_of_each_record_and_of_the_first_block(tmp_path: Path, which: int) -> None:
    parts = [journal.encode_file_header(4), record(8, 300, 20), record(9, 50)]
    path = write(tmp_path, *parts[1:], tail=record(1, 10))
    intact = path.read_bytes()
    start = sum(map(len, parts[:which]))
    for at in range(start, start + len(parts[which]), 7 if which else 3):
        changed = bytearray(intact)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        found = list(check_journal(str(tmp_path), clean=True))
        assert found, at
        assert {problem.path for problem in found} == {str(path)}
        assert all(problem.is_note for problem in found) == (which > 0), "nothing needs a record after a clean stop"


def test_after_another_stop_the_newest_record_of_a_lane_may_be_torn_and_no_other(tmp_path: Path) -> None:
    old, new = bytearray(record(8, 300)), bytearray(record(9, 300))
    old[200] ^= 1
    new[200] ^= 1
    first = write(tmp_path, bytes(old))
    second = write(tmp_path, bytes(new), name="awaited-1")
    found = list(check_journal(str(tmp_path), clean=False))
    assert [(problem.path, problem.is_note) for problem in found] == [(str(first), False), (str(second), True)]
    assert "record 8: CRC" in found[0].what
    assert "offsets 5..8" in found[0].what
    assert found[0].position == BLOCK_BYTES + journal.data_start(1)
