"""What `verify` makes of one partition beside `test_verify.py`: checksums of files, a swap that was not finished, epochs."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.base.ids import LeaderEpoch, NodeId, Offset
from riverlog.records.builder import rebuilt
from riverlog.records.checksum import crc32c
from riverlog.records.header import read_header
from riverlog.storage.format import checkpoint, meta, names, swap
from riverlog.storage.format.checkpoint import COMPACTED, Checksums, FileChecksums, PartitionMark, SegmentMark
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs
from riverlog.storage.format.swap import Group, Swap
from riverlog.storage.format.time_index import TimeIndex
from riverlog.storage.partition_check import EpochWalk
from riverlog.storage.verify import Problem, verify
from tests.partition_files import PartitionWriter


class Directory:
    """One partition with a sealed and an active segment, cleanly stopped, with all checksums."""

    def __init__(self, root: Path) -> None:
        self.root = root
        writer = PartitionWriter(root / names.TOPICS / "flights-0").start()
        self.partition = writer.directory
        self.sealed = writer.segment(20)
        self.active = writer.segment(5, keep=False)
        (root / names.META).write_bytes(meta.encode(meta.Meta("cluster", NodeId(0), 1)))
        for snapshot in self.partition.glob("*" + names.SNAPSHOT):
            snapshot.unlink()
        self.mark = writer.mark(self.active)
        self.mark = self.mark._replace(
            segments=[self.mark.segments[0]._replace(checksums=self.sums(self.sealed))],
            file_checksums=FileChecksums(
                self.crc(self.partition / names.PARTITION_METADATA), self.crc(self.partition / names.LEADER_EPOCHS)
            ),
        )
        self.stop(self.mark)

    @staticmethod
    def crc(path: Path) -> int:
        return crc32c(path.read_bytes())

    def sums(self, log: Path) -> Checksums:
        return Checksums(*(self.crc(log.with_suffix(one)) for one in (names.LOG, names.INDEX, names.TIME_INDEX)))

    def stop(self, mark: PartitionMark, *, clean: bool = True) -> None:
        (self.root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(clean, 1, [mark])))

    def look(self) -> list[Problem]:
        return list(verify(str(self.root)))


@pytest.fixture
def data(tmp_path: Path) -> Directory:
    found = Directory(tmp_path)
    assert found.look() == []
    return found


def test_a_file_that_is_not_what_its_checksum_says(data: Directory) -> None:
    path = data.sealed.with_suffix(names.TIME_INDEX)
    path.write_bytes(path.read_bytes()[:-12])
    assert any(problem.path == str(path) and "where the checkpoint has 0x" in problem.what for problem in data.look())


def test_a_transaction_index_that_should_not_or_should_be_there(data: Directory) -> None:
    path = data.sealed.with_suffix(names.TXN_INDEX)
    path.write_bytes(b"")
    assert [(one.path, one.what) for one in data.look()] == [
        (str(path), "the file has CRC 0x00000000 where the checkpoint has no such file")
    ]
    sealed = data.mark.segments[0]
    assert sealed.checksums is not None
    data.stop(data.mark._replace(segments=[sealed._replace(checksums=sealed.checksums._replace(transactions=0))]))
    assert data.look() == []
    path.unlink()
    assert [(one.path, one.what) for one in data.look()] == [(str(path), "is missing")]


def test_small_files_are_held_after_a_clean_stop_only(data: Directory) -> None:
    path = data.partition / names.LEADER_EPOCHS
    path.write_bytes(b"0\n1\n0 0")
    found = data.look()
    assert [(one.path, one.is_note) for one in found] == [(str(path), False)]
    data.stop(data.mark, clean=False)
    assert data.look() == []


def test_a_clean_checkpoint_knows_every_directory(data: Directory) -> None:
    (data.root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(True, 1, [])))
    found = data.look()
    assert [one.path for one in found] == [str(data.partition / names.PARTITION_METADATA)]
    assert "knows nothing" in found[0].what


def compacted(data: Directory) -> SegmentMark:
    """The sealed segment with every second batch taken out, beside it as compaction writes it."""
    content, kept, at = data.sealed.read_bytes(), bytearray(), 0
    header = read_header(content)
    while at < len(content):
        header = read_header(content, at)
        if header.base_offset % 10 == 0:
            kept += content[at : at + header.size]
        at += header.size
    tail = read_header(content, len(content) - header.size)
    kept += rebuilt(tail, [])
    times = TimeIndex(Offset(0))
    times.append(header.max_timestamp, Offset(99))
    files = {names.LOG: bytes(kept), names.INDEX: b"", names.TIME_INDEX: times.encode()}
    for suffix, one in files.items():
        data.sealed.with_suffix(suffix + ".cleaned").write_bytes(one)
    sums = Checksums(*(crc32c(one) for one in files.values()))
    return SegmentMark(Offset(0), len(kept), Offset(99), header.max_timestamp, Offset(99), 1, COMPACTED, sums)


def test_a_swap_that_was_not_finished_is_looked_at_as_if_it_were(data: Directory) -> None:
    fresh = compacted(data)
    path = data.partition / names.SWAP
    cleaned = [one for one in data.look() if "given up" in one.what]
    assert len(cleaned) == 3
    assert all(one.is_note for one in cleaned)
    path.write_bytes(swap.encode(Swap(data.mark.partition, [Group([Offset(0)], [fresh])])))
    found = data.look()
    assert [(one.path, one.is_note) for one in found if not one.is_note] == []
    assert str(path) in {one.path for one in found}
    log = data.sealed.with_suffix(names.LOG + ".cleaned")
    content = bytearray(log.read_bytes())
    content[3] ^= 1
    log.write_bytes(content)
    assert any(one.path == str(log) and not one.is_note for one in data.look())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert any(one.path == str(path) and not one.is_note for one in data.look())


def test_a_compacted_segment_has_gaps_and_no_other(data: Directory) -> None:
    fresh = compacted(data)
    for one in data.partition.glob("*.cleaned"):
        one.rename(one.with_suffix(""))
    data.stop(data.mark._replace(segments=[fresh]))
    assert data.look() == []
    data.stop(data.mark._replace(segments=[fresh._replace(flags=0)]))
    assert "offset 10 where 5 is next" in [one.what for one in data.look()]


def test_epochs_are_followed_forwards_and_backwards() -> None:
    entries = [EpochEntry(LeaderEpoch(epoch), Offset(at)) for epoch, at in ((1, 5), (4, 10), (5, 11))]
    walk = EpochWalk(LeaderEpochs(entries))
    assert [walk.at(offset) for offset in (0, 5, 9, 10, 11, 400, 10, 4)] == [-1, 1, 1, 4, 5, 5, 4, -1]
    assert [walk.is_news(one) for one in (None, (1, 2), (1, 2), (1, 3), None, (1, 3))] == [
        False, True, False, True, False, True,
    ]  # fmt: skip
    assert not EpochWalk(None).known
