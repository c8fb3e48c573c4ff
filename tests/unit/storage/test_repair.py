"""Repair of damaged partitions: nothing without an order, what is dropped is kept beside, offsets stay what they were, and
afterwards `verify` finds nothing and the engine serves the rest."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import Offset, PartitionId, TopicId, TopicName
from riverlog.env.clock import SystemClock
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import RealFiles
from riverlog.records.builder import build_batch, empty_batch
from riverlog.records.header import read_header
from riverlog.records.record import NewRecord
from riverlog.storage.contract import Acks, Append, Appended, LogConfig, TopicLog
from riverlog.storage.format import checkpoint, names
from riverlog.storage.local import swaps
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.storage.repair import Loss, Order, repair
from riverlog.storage.verify import verify
from riverlog.storage.windows import stored_batches
from riverlog.testing.conformance.log_engine import P0
from riverlog.testing.conformance.log_transactions import committed_in, ended, marker_of
from tests.engine_directory import TRANSACTIONAL, write_transactions

TOPIC = TopicLog(
    topic_id=TopicId(bytes(range(16))),
    name=TopicName("flights"),
    partition_count=2,
    config=LogConfig(segment_bytes=500, index_interval_bytes=100, retention_ms=-1),
)
NOW_MS = 1_700_000_000_000
BATCHES = 18


async def engine_at(directory: Path) -> LocalEngine:
    return await LocalEngine.open(
        str(directory),
        LocalSettings(),
        files=RealFiles(),
        clock=SystemClock(),
        entropy=SeededEntropy(7),
        topics=[TOPIC],
    )


async def append(engine: LocalEngine, index: int, sequence: int, count: int = 2) -> int:
    records = [NewRecord(NOW_MS + sequence, b"key", b"value") for _ in range(count)]
    batch = build_batch(records, producer_id=9, producer_epoch=0, base_sequence=sequence)
    answer = engine.append([Append(PartitionId(TOPIC.topic_id, index), batch, read_header(batch))], Acks.ALL)
    (one,) = answer if isinstance(answer, list) else await answer  # type: ignore[misc]
    assert isinstance(one, Appended), one
    return one.base_offset


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repair") / "data"

    async def write() -> None:
        engine = await engine_at(directory)
        for at in range(BATCHES):
            for index in range(2):
                await append(engine, index, at * 2)
        await engine.checkpoints.write()
        while any(one.checksums is None for each in engine.partitions.values() for one in each.segments[:-1]):
            await asyncio.sleep(0.005)
        await engine.close()

    asyncio.run(write())
    return directory


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    shutil.copytree(original, directory)
    return directory


def partition(data: Path, index: int = 0) -> Path:
    return data / names.TOPICS / f"flights-{index}"


def segments(data: Path, index: int = 0) -> list[Path]:
    return sorted(partition(data, index).glob("*.log"))


def flip(path: Path, at: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= mask
    path.write_bytes(content)


def problems(data: Path) -> list[str]:
    return [str(one) for one in verify(str(data)) if not one.is_note]


def mend(data: Path, order: Order | None, **which: object) -> list[Loss]:
    return repair(RealFiles(), str(data), order, now_ms=NOW_MS, **which)  # type: ignore[arg-type]


def batches_of(data: Path, index: int = 0) -> list[tuple[int, int, int]]:
    """Base offset, last offset and number of records of each batch, in all segments."""
    found = []
    for path in segments(data, index):
        with open(path, "rb", buffering=0) as file:
            found += [
                (one.header.base_offset, one.header.last_offset, one.header.record_count)
                for one in stored_batches(file)
            ]
    return found


def whole() -> list[tuple[int, int, int]]:
    return [(at * 2, at * 2 + 1, 2) for at in range(BATCHES)]


def served(data: Path) -> None:
    """The engine takes the directory, the producer goes on with its sequence, at the offset where the log ended."""

    async def serve() -> None:
        engine = await engine_at(data)
        try:
            for index in range(2):
                assert engine.partitions[PartitionId(TOPIC.topic_id, index)].failure is None
                assert engine.watermarks(PartitionId(TOPIC.topic_id, index)).log_end == BATCHES * 2
                assert await append(engine, index, BATCHES * 2) == BATCHES * 2
        finally:
            await engine.close()

    asyncio.run(serve())
    assert problems(data) == []


def test_nothing_is_to_be_repaired_in_a_sound_directory(data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    for order in (None, *Order):
        assert mend(data, order) == []
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("where", [0, 1, -1], ids=["first", "second", "active"])
@pytest.mark.parametrize("at", [3, 7, 9, 11, 12, 16, 18, 70])
def test_skip_drops_the_batch_that_is_bad_and_nothing_else(data: Path, where: int, at: int) -> None:
    path = segments(data)[where]
    intact = path.read_bytes()
    size = read_header(intact).size
    start = size if where else 0  # the second batch of its segment
    base = read_header(intact, start).base_offset
    mask = 4 if at in (7, 11) else 0x40
    flip(path, start + at, mask)
    assert problems(data)
    planned = mend(data, None)
    assert [(one.first_offset, one.next_offset, one.position, one.size) for one in planned] == [
        (base, base + 2, start, size)
    ]
    assert path.read_bytes() != intact
    (loss,) = mend(data, Order.SKIP)
    assert loss.saved_as is not None
    damaged = bytearray(intact[start : start + size])
    damaged[at] ^= mask
    assert Path(loss.saved_as).read_bytes() == damaged
    assert problems(data) == []
    expected = whole()
    expected[base // 2] = (base, base + 1, 0)
    assert batches_of(data) == expected
    assert batches_of(data, 1) == whole()
    served(data)


def test_truncate_drops_all_that_is_behind_and_the_offsets_are_not_used_again(data: Path) -> None:
    path = segments(data)[1]
    behind = segments(data)[2:]
    base = read_header(path.read_bytes()).base_offset
    flip(path, 70)
    losses = mend(data, Order.TRUNCATE)
    assert {one.path for one in losses} == {str(one) for one in (path, *behind)}
    assert all(one.saved_as is not None for one in losses)
    assert problems(data) == []
    assert batches_of(data) == [*whole()[: base // 2], (base, BATCHES * 2 - 1, 0)]
    assert batches_of(data, 1) == whole()
    served(data)


@pytest.mark.parametrize("order", list(Order))
def test_a_segment_that_is_gone_or_cut_and_one_that_is_too_long(data: Path, order: Order) -> None:
    first, second, *_ = segments(data)
    first.unlink()
    content = second.read_bytes()
    second.write_bytes(content[:-5])
    other = segments(data, 1)[0]
    other.write_bytes(other.read_bytes() + b"behind the end")
    assert problems(data)
    losses = mend(data, order)
    assert (0, first.name) in [(one.first_offset, Path(one.path).name) for one in losses]
    assert problems(data) == []
    assert batches_of(data)[0] == (
        (0, BATCHES * 2 - 1, 0) if order is Order.TRUNCATE else (0, read_header(content).base_offset - 1, 0)
    )
    served(data)


def test_damage_at_several_places_and_a_piece_that_no_header_leads_over(data: Path) -> None:
    path = segments(data)[-1]
    content = path.read_bytes()
    size = read_header(content).size
    assert len(content) >= 3 * size
    path.write_bytes(b"\xff" * (size + 20) + content[size + 20 :])
    flip(segments(data)[0], 16)
    losses = mend(data, Order.SKIP)
    assert len(losses) == 2
    assert losses[1].position == 0
    assert losses[1].size == 2 * size
    assert problems(data) == []
    served(data)


@pytest.mark.parametrize("suffix", [names.INDEX, names.TIME_INDEX])
@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_indexes_are_made_again_and_nothing_is_lost(data: Path, suffix: str, how: str) -> None:
    path = segments(data)[0].with_suffix(suffix)
    if how == "gone":
        path.unlink()
    else:
        flip(path, 3)
    assert problems(data)
    (loss,) = mend(data, Order.SKIP)
    assert loss.size == 0
    assert "no record is lost" in str(loss)
    assert problems(data) == []
    assert batches_of(data) == whole()
    served(data)


def test_leader_epochs_are_made_again_of_the_batches(data: Path) -> None:
    path = partition(data) / names.LEADER_EPOCHS
    content = path.read_bytes()
    flip(path, 0)
    assert problems(data)
    assert [one.path for one in mend(data, Order.SKIP)] == [str(path)]
    assert path.read_bytes() == content
    assert problems(data) == []


@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_metadata_is_made_again_by_what_the_catalog_says(data: Path, how: str) -> None:
    path = partition(data) / names.PARTITION_METADATA
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        flip(path, 0)
    assert problems(data)
    (loss,) = mend(data, Order.SKIP, topic_ids={"flights": TOPIC.topic_id})
    assert (loss.path, loss.size) == (str(path), 0)
    assert path.read_bytes() == content
    assert problems(data) == []


@pytest.mark.parametrize("order", list(Order))
def test_a_directory_that_is_gone_is_accepted_as_lost_when_told(data: Path, order: Order) -> None:
    shutil.rmtree(partition(data, 1))
    assert problems(data)
    assert mend(data, None, topic_ids={"flights": TOPIC.topic_id})[0].what == "the directory is gone"
    assert not partition(data, 1).exists()
    ids = {"flights": TOPIC.topic_id}
    (loss,) = mend(data, order, topic_ids=ids)
    assert (loss.path, loss.first_offset, loss.next_offset) == (str(partition(data, 1)), 0, BATCHES * 2)
    assert problems(data) == []

    async def serve() -> None:
        engine = await engine_at(data)
        marks = engine.watermarks(PartitionId(TOPIC.topic_id, 1))
        assert (marks.log_start, marks.log_end) == (BATCHES * 2, BATCHES * 2)
        assert await append(engine, 1, 0) == BATCHES * 2
        await engine.close()

    asyncio.run(serve())
    assert problems(data) == []


def test_only_what_was_named_is_repaired(data: Path) -> None:
    flip(segments(data, 0)[0], 70)
    flip(segments(data, 1)[0], 70)
    assert mend(data, Order.SKIP, topic="other") == []
    assert len(mend(data, Order.SKIP, topic="flights", partition=1)) == 1
    assert len(mend(data, None)) == 1


def test_what_a_crash_left_of_a_repair_is_ended_by_the_next(data: Path) -> None:
    flip(segments(data)[0], 70)
    before = (data / names.CHECKPOINT).read_bytes()
    mend(data, Order.SKIP)
    after = batches_of(data)
    (data / names.CHECKPOINT).write_bytes(before)
    assert problems(data)
    assert len(mend(data, Order.SKIP)) == 1
    assert problems(data) == []
    assert batches_of(data) == after


@pytest.mark.parametrize("what", ["unclean", "missing"])
def test_without_a_clean_stop_the_next_start_comes_first(data: Path, what: str) -> None:
    path = data / names.CHECKPOINT
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(checkpoint.encode(checkpoint.decode(path.read_bytes())._replace(clean=False)))
    with pytest.raises(RiverlogError, match="start the broker once and stop it"):
        mend(data, Order.SKIP)


def test_an_empty_batch_takes_up_offsets() -> None:
    header = read_header(empty_batch(7, 2**31, 3))
    assert (header.base_offset, header.last_offset, header.record_count, header.leader_epoch) == (7, 2**31, 0, 3)
    assert header.size == len(empty_batch(7, 8, 3)) == 61
    assert Offset(header.next_offset) == 2**31 + 1


async def stopped_in_a_swap(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint names new segments whose files have not got their names."""
    compacted = replace(TOPIC.config, cleanup_compact=True, cleanup_delete=False)
    engine = await engine_at(directory)
    for at in range(BATCHES):
        await append(engine, 0, at * 2)
    await engine.checkpoints.write()
    engine.configure(TOPIC.topic_id, compacted)

    def refuse(*_: object) -> None:
        raise OSError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(swaps, "put_in_place", refuse)
        with pytest.raises(OSError, match="gone"):
            await engine.compacting.run_once(engine.partitions[PartitionId(TOPIC.topic_id, 0)])
    await append(engine, 0, BATCHES * 2)
    await engine.close()


@pytest.mark.parametrize("order", list(Order))
def test_a_swap_that_was_interrupted_is_finished_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    data = tmp_path / "data"
    asyncio.run(stopped_in_a_swap(data, monkeypatch))
    before = contents(partition(data))
    (told,) = repair(RealFiles(), str(data), None, now_ms=NOW_MS)
    assert "a compaction was interrupted" in str(told)
    assert contents(partition(data)) == before, "nothing is changed without an order"
    assert repair(RealFiles(), str(data), order, now_ms=NOW_MS) == [told]
    assert not [name for name in contents(partition(data)) if name == "swap" or name.endswith(".cleaned")]
    assert not list(verify(str(data)))
    assert repair(RealFiles(), str(data), order, now_ms=NOW_MS) == []


def test_a_damaged_manifest_keeps_no_partition_offline(data: Path) -> None:
    (partition(data) / names.SWAP).write_bytes(b"not a manifest")
    (told,) = repair(RealFiles(), str(data), Order.SKIP, now_ms=NOW_MS)
    assert "a compaction was interrupted" in str(told)
    assert not list(verify(str(data)))


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("order", [Order.SKIP, Order.TRUNCATE])
@pytest.mark.parametrize("which", ["batch", "marker"])
def test_a_log_with_transactions_is_repaired(tmp_path: Path, order: Order, which: str) -> None:
    """A batch of an aborted transaction, or its marker, is lost: the others are aborted still, and what was open is open."""
    data = tmp_path / "data"
    values = write_transactions(data, tmp_path / "killed")
    log = sorted(data.glob(f"{names.TOPICS}/*/*.log"))[3]
    with open(log, "rb", buffering=0) as file:
        chosen = [
            one.position
            for one in stored_batches(file)
            if one.header.producer_id == 1 and one.header.is_control == (which == "marker")
        ]
    flip(log, chosen[0] + 30)
    assert [one for one in problems(data) if str(log) in one]
    assert mend(data, order)
    assert problems(data) == []

    async def read() -> list[str]:
        world = {"files": RealFiles(), "clock": SystemClock(), "entropy": SeededEntropy(7)}
        engine = await LocalEngine.open(str(data), LocalSettings(), topics=[TRANSACTIONAL], **world)  # type: ignore[arg-type]
        try:
            marks = engine.watermarks(P0)
            assert (marks.last_stable_offset, marks.log_end) == (64, 65)
            found = await committed_in(engine, P0, bytes_max=1)
            await ended(engine, marker_of(P0, 3, 1))
            assert engine.watermarks(P0).last_stable_offset == 66
            return found
        finally:
            await engine.close()

    found = asyncio.run(read())
    assert found == (values if order is Order.SKIP else values[: len(found)])
    assert len(found) > 2
    assert problems(data) == []

