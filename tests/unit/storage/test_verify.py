"""A stopped directory: what is right gives nothing, each damage is named with its file and place, and what the next start
repairs by itself is a note."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from riverlog.base.ids import LeaderEpoch, NodeId, Offset, Position, ProducerId, TopicId
from riverlog.storage.format import checkpoint, meta, names, partition_metadata, producer_snapshot, txn_index
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs
from riverlog.storage.format.offset_index import OffsetIndex
from riverlog.storage.verify import Problem, verify
from tests.engine_directory import write_directory, write_transactions
from tests.partition_files import PartitionWriter, make_batch, simple_records


class Directory:
    """A data directory of one topic with one partition: two sealed segments and an active one, cleanly stopped."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writer = PartitionWriter(root / names.TOPICS / "flights-0").start()
        self.partition = self.writer.directory
        self.sealed = [self.writer.segment(20, producer_id=7), self.writer.segment(20, producer_id=7)]
        self.active = self.writer.segment(10, producer_id=7, keep=False)
        self.end = self.writer.next_offset
        end = names.segment_file_name(Offset(self.end), names.SNAPSHOT)
        (self.partition / end).write_bytes(self.writer.snapshot())
        (root / names.META).write_bytes(meta.encode(meta.Meta("cluster", NodeId(0), 1)))
        self.mark = self.writer.mark(self.active)
        self.stop()

    def stop(self, *, clean: bool = True, mark: checkpoint.PartitionMark | None = None) -> None:
        marks = [self.mark if mark is None else mark]
        (self.root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(clean, 1, marks)))

    def problems(self) -> list[Problem]:
        return [problem for problem in verify(str(self.root)) if not problem.is_note]

    def notes(self) -> list[Problem]:
        return [problem for problem in verify(str(self.root)) if problem.is_note]

    def only_problem(self) -> Problem:
        found = self.problems()
        assert len(found) == 1, found
        return found[0]


@pytest.fixture
def data(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def change(path: Path, at: int, byte: int = 1) -> None:
    """Flips bits of one byte."""
    content = bytearray(path.read_bytes())
    content[at] ^= byte
    path.write_bytes(content)


def test_a_sound_directory_has_no_problems_and_no_notes(data: Directory) -> None:
    assert list(verify(str(data.root))) == []
    assert list(verify(str(data.root) + "/")) == []
    assert list(verify(str(data.partition))) == []
    assert list(verify(str(data.root / names.TOPICS))) == []


@pytest.mark.parametrize("what", ["missing", "file", "other"])
def test_what_is_no_data_directory_is_refused(tmp_path: Path, what: str) -> None:
    if what == "file":
        (tmp_path / what).write_bytes(b"")
    if what == "other":
        (tmp_path / what).mkdir()
    with pytest.raises(ValueError, match="director"):
        verify(str(tmp_path / what))


def test_a_flipped_bit_in_a_record_is_found_and_the_rest_is_still_read(data: Directory) -> None:
    change(data.sealed[0], 321 * 3 + 100)
    change(data.sealed[0], 321 * 7 + 100)
    found = data.problems()
    assert [(problem.path, problem.position) for problem in found] == [
        (str(data.sealed[0]), 963),
        (str(data.sealed[0]), 2247),
    ]
    assert "CRC" in found[0].what


def test_a_length_that_cannot_be_ends_the_segment(data: Directory) -> None:
    change(data.sealed[1], 321 * 2 + 8, 0x80)
    found = data.problems()
    assert found[0].position == 642
    assert "length" in found[0].what


def test_a_segment_that_is_cut(data: Directory) -> None:
    path = data.sealed[0]
    path.write_bytes(path.read_bytes()[:-5])
    assert {problem.what.split(" ")[0] for problem in data.problems()} >= {"316", "6415"}, (
        "a torn batch, and another size"
    )


def test_a_hole_between_batches_and_one_between_segments(data: Directory) -> None:
    content = data.active.read_bytes()
    data.active.write_bytes(content[:321] + content[642:])
    assert any(problem.what == "offset 210 where 205 is next" for problem in data.problems())
    gaps = verify(str(data.partition), compacted_topics={"flights"})
    assert not any("is next" in problem.what for problem in gaps)
    for suffix in names.SEGMENT_SUFFIXES:
        (data.sealed[1].with_suffix(suffix)).unlink(missing_ok=True)
    assert any("begins with 200, the segment before it ends at 100" in problem.what for problem in data.problems())
    assert any("is missing; the checkpoint names it" in problem.what for problem in data.problems())


def test_an_index_entry_with_another_offset(data: Directory) -> None:
    path = data.sealed[0].with_suffix(names.INDEX)
    change(path, 3)
    problem = data.only_problem()
    assert (problem.path, problem.position) == (str(path), 0)
    assert str(problem) == f"{path}: index entry offset 15 -> position 642, whose batch ends with 14 at position 0"


def test_an_index_entry_with_another_position(data: Directory) -> None:
    path = data.sealed[0].with_suffix(names.INDEX)
    change(path, 15)
    problem = data.only_problem()
    assert (problem.path, problem.position) == (str(path), 8)
    assert "where no batch begins" in problem.what


def test_an_index_that_does_not_decode_or_is_missing(data: Directory) -> None:
    path = data.sealed[0].with_suffix(names.INDEX)
    path.write_bytes(b"\xff" * 8)
    assert data.only_problem().path == str(path)
    path.unlink()
    assert data.only_problem().what == "is missing"
    data.active.with_suffix(names.INDEX).unlink()
    assert [note.path for note in data.notes()] == [str(data.active.with_suffix(names.INDEX))], "a start rebuilds it"


def test_a_time_entry_with_another_timestamp(data: Directory) -> None:
    path = data.sealed[0].with_suffix(names.TIME_INDEX)
    change(path, 7)
    assert (data.only_problem().path, data.only_problem().position) == (str(path), 0)


def test_a_sealed_segments_time_index_without_its_largest_timestamp(data: Directory) -> None:
    path = data.sealed[0].with_suffix(names.TIME_INDEX)
    path.write_bytes(path.read_bytes()[:-12])
    assert "the largest of a sealed segment, is missing" in data.only_problem().what
    path = data.active.with_suffix(names.TIME_INDEX)
    path.write_bytes(path.read_bytes()[:-12])
    assert len(data.problems()) == 1, "of the active segment it is not asked"


def test_a_snapshot_with_a_flipped_bit_and_one_from_the_future(data: Directory) -> None:
    path = data.active.with_suffix(names.SNAPSHOT)
    good = path.read_bytes()
    change(path, 20)
    assert "CRC" in data.only_problem().what
    path.write_bytes((data.partition / names.segment_file_name(Offset(data.end), names.SNAPSHOT)).read_bytes())
    assert "behind the snapshot's offset" in data.only_problem().what
    path.write_bytes(good)
    (data.partition / names.segment_file_name(Offset(999), names.SNAPSHOT)).write_bytes(good)
    assert data.only_problem().what == "a snapshot at offset 999, the log ends at 250"


def test_leader_epochs_that_do_not_fit_the_log(data: Directory) -> None:
    path = data.partition / names.LEADER_EPOCHS
    for entries, what in (
        ([(0, 0), (1, 251)], "leader epoch 1 from 251, the log ends at 250"),
        ([(1, 0)], f"leader epoch 0 at offset 0, where {names.LEADER_EPOCHS} has 1"),
    ):
        epochs = [EpochEntry(LeaderEpoch(epoch), Offset(start)) for epoch, start in entries]
        path.write_bytes(LeaderEpochs(epochs).encode())
        assert data.only_problem().what == what
    path.write_bytes(b"0\n2\n1 0\n0 5\n")
    assert data.only_problem().path == str(path)
    path.unlink()
    assert data.only_problem().what == "is missing"
    path.write_bytes(LeaderEpochs([EpochEntry(LeaderEpoch(0), Offset(0))]).encode())
    data.stop(mark=data.mark._replace(leader_epoch=LeaderEpoch(1)))
    assert data.only_problem().what == "ends with leader epoch 0, the checkpoint has 1"


def test_an_aborted_transaction_outside_its_segment(data: Directory) -> None:
    path = data.sealed[0].with_suffix(names.TXN_INDEX)
    path.write_bytes(txn_index.encode([txn_index.AbortedEntry(ProducerId(7), Offset(0), Offset(100), Offset(0))]))
    assert data.only_problem().path == str(path)
    path.write_bytes(b"x")
    assert data.only_problem().path == str(path)


def test_partition_metadata_that_is_missing_damaged_or_anothers(data: Directory) -> None:
    data.stop(clean=False)
    path = data.partition / names.PARTITION_METADATA
    path.unlink()
    assert data.only_problem() == Problem(str(path), 0, "is missing")
    path.write_bytes(b"x")
    assert data.only_problem().path == str(path)
    path.write_bytes(partition_metadata.encode(data.writer.topic_id))
    other = PartitionWriter(data.root / names.TOPICS / "flights-1", topic_id=TopicId(bytes(15) + b"x")).start()
    other.segment(1)
    assert "where others have" in data.only_problem().what
    (other.directory / names.PARTITION_METADATA).write_bytes(partition_metadata.encode(data.writer.topic_id))
    same = PartitionWriter(data.root / names.TOPICS / "other-0").start()
    same.segment(1)
    assert any("the same topic id and partition" in problem.what for problem in data.problems())


@pytest.mark.parametrize(
    ("replace", "what"),
    [
        ({"recovery_offset": Offset(249)}, "offset 250 where the checkpoint's recovery point has 249"),
        ({"recovery_position": Position(3211)}, "ends before the recovery point of the checkpoint (3211)"),
        ({"recovery_position": Position(322)}, "offset None where the checkpoint's recovery point has 250"),
        (
            {"recovery_position": Position(321), "recovery_offset": Offset(205)},
            "goes on behind the end that a clean stop has noted",
        ),
        ({"recovery_segment": Offset(190)}, "is missing; the checkpoint's recovery point is in it"),
        ({"log_start": Offset(251)}, "log start 251 of the checkpoint is not in the log (0 to 250)"),
    ],
)
def test_a_checkpoint_that_does_not_agree(data: Directory, replace: dict[str, int], what: str) -> None:
    data.stop(mark=data.mark._replace(**replace))  # type: ignore[arg-type]  # the fields are distinct ints
    assert data.only_problem().what == what


def test_sealed_segments_that_do_not_agree(data: Directory) -> None:
    first, second = data.mark.segments
    data.stop(mark=data.mark._replace(segments=(first._replace(size=5), second._replace(last_offset=Offset(5)))))
    assert [problem.what for problem in data.problems()] == [
        "6420 bytes where the checkpoint has 5",
        "offset 199 and timestamp 1700000000199 are the last where the checkpoint has 5 and 1700000000199",
    ]


def test_a_partition_that_only_the_checkpoint_knows(data: Directory) -> None:
    gone = data.mark._replace(partition=data.mark.partition._replace(index=5))
    marks = [data.mark, gone]
    (data.root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(True, 1, marks)))
    assert data.only_problem().what == "partition 5 of topic AAECAwQFBgcICQoLDA0ODw has no directory"
    (data.root / names.TOPICS / names.deleted_directory_name(data.writer.topic_id, 5)).mkdir()
    assert data.problems() == []


def test_a_damaged_checkpoint_and_meta(data: Directory) -> None:
    change(data.root / names.CHECKPOINT, 50)
    (data.root / names.META).write_bytes(b"{}")
    assert {Path(problem.path).name for problem in data.problems()} == {names.CHECKPOINT, names.META}
    (data.root / names.META).unlink()
    (data.root / names.CHECKPOINT).unlink()
    assert data.only_problem().what == "is missing"
    assert "is missing: the next start reads every segment" in data.notes()[0].what


TAILS: list[Callable[[bytes], bytes]] = [
    lambda log: log + log[:100],
    lambda log: log + log[:30],
    lambda log: log + bytes(4096),
    lambda log: log + make_batch(250, simple_records(5, 1), leader_epoch=0)[:-1] + b"x",
    lambda log: log[:-1] + b"x",
]


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_tail_behind_the_recovery_point_is_a_note(data: Directory, tail: Callable[[bytes], bytes]) -> None:
    mark = data.mark._replace(recovery_position=Position(321 * 5), recovery_offset=Offset(225))
    data.stop(clean=False, mark=mark)
    assert list(verify(str(data.root))) == []
    data.active.write_bytes(tail(data.active.read_bytes()))
    assert data.problems() == []
    assert str(data.active) in {note.path for note in data.notes()}
    data.stop(clean=True)
    assert data.problems() != []


def test_damage_before_the_recovery_point_is_no_torn_tail(data: Directory) -> None:
    mark = data.mark._replace(recovery_position=Position(321 * 5), recovery_offset=Offset(225))
    data.stop(clean=False, mark=mark)
    change(data.active, 321 * 4 + 100)
    assert data.only_problem().position == 321 * 4


def test_indexes_of_the_unsynced_tail_are_rebuilt_by_a_start(data: Directory) -> None:
    data.stop(clean=False)
    index = OffsetIndex(Offset(200))
    index.append(Offset(999), Position(99999))
    data.active.with_suffix(names.INDEX).write_bytes(index.encode())
    data.active.with_suffix(names.TIME_INDEX).write_bytes(b"\xff" * 24)
    data.active.with_suffix(names.SNAPSHOT).write_bytes(b"x")
    assert data.problems() == []
    assert len(data.notes()) == 3
    data.active.with_suffix(names.INDEX).unlink()
    assert len(data.notes()) == 2, "not there yet is as good"


def test_a_partition_that_no_checkpoint_knows_yet_is_read_from_its_start(data: Directory) -> None:
    (data.root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(False, 1, ())))
    data.active.write_bytes(data.active.read_bytes()[:-1])
    assert data.problems() == []
    empty = data.root / names.TOPICS / "new-0"
    empty.mkdir()
    (empty / names.PARTITION_METADATA).write_bytes(partition_metadata.encode(TopicId(bytes(16))))
    assert data.problems() == []


def test_a_running_broker_is_noted(data: Directory) -> None:
    path = data.root / names.LOCK
    path.write_bytes(b"")
    assert data.notes() == []
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "a broker runs on this directory" in data.notes()[0].what
    assert data.notes() == []


def test_snapshots_restore_from_files_what_was_written(data: Directory) -> None:
    path = data.partition / names.segment_file_name(Offset(data.end), names.SNAPSHOT)
    assert producer_snapshot.decode(path.read_bytes()) == list(data.writer.producers.entries())


def test_a_partition_that_never_had_a_record_needs_no_directory(data: Directory) -> None:
    empty = data.mark._replace(
        partition=data.mark.partition._replace(index=1),
        recovery_offset=Offset(0),
        recovery_segment=Offset(0),
        recovery_position=Position(0),
        segments=(),
    )
    (data.root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(True, 1, [data.mark, empty])))
    assert data.problems() == []
    directory = data.root / names.TOPICS / "flights-1"
    directory.mkdir()
    (directory / names.PARTITION_METADATA).write_bytes(partition_metadata.encode(data.writer.topic_id))
    assert data.problems() == []
    gone = empty._replace(recovery_offset=Offset(5))
    (data.root / names.CHECKPOINT).write_bytes(checkpoint.encode(checkpoint.Checkpoint(True, 1, [data.mark, gone])))
    assert data.only_problem() == Problem(str(directory), 0, "no segment")


def test_what_the_local_engine_writes_is_sound(tmp_path: Path) -> None:
    """After a clean stop nothing at all is found; of a killed broker's directory notes at most."""
    write_directory(tmp_path / "data", tmp_path / "killed")
    assert len(list((tmp_path / "data" / names.TOPICS).rglob("*.log"))) > 4
    assert list(verify(str(tmp_path / "data"))) == []
    assert [problem for problem in verify(str(tmp_path / "killed")) if not problem.is_note] == []


@pytest.fixture(scope="module")
def transactional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("transactional")
    write_transactions(root / "data", root / "killed")
    return root


def indexes_in(root: Path) -> list[Path]:
    return sorted(root.glob(f"{names.TOPICS}/*/*{names.TXN_INDEX}"))


def test_a_log_with_transactions_is_sound_after_a_clean_stop_and_a_kill(transactional: Path) -> None:
    assert list(verify(str(transactional / "data"))) == []
    assert all(problem.is_note for problem in verify(str(transactional / "killed")))
    assert len(indexes_in(transactional / "data")) > 2
    assert indexes_in(transactional / "killed"), "one checkpoint was written"


@pytest.mark.parametrize("at", [0, -1])
def test_every_entry_of_a_transaction_index_is_held_by_a_marker(transactional: Path, tmp_path: Path, at: int) -> None:
    root = tmp_path / "data"
    shutil.copytree(transactional / "data", root)
    path = indexes_in(root)[at]
    whole = path.read_bytes()
    for position in range(0, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert {problem.path for problem in verify(str(root)) if not problem.is_note} == {str(path)}, position
    for content in (b"", whole[: txn_index.ENTRY_BYTES], whole + whole[-txn_index.ENTRY_BYTES :], whole[:-1]):
        if content != whole:
            path.write_bytes(content)
            assert {problem.path for problem in verify(str(root)) if not problem.is_note} == {str(path)}
    path.unlink()
    assert {problem.path for problem in verify(str(root)) if not problem.is_note} == {str(path)}

