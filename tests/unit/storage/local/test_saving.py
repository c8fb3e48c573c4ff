"""What a checkpoint writes for many partitions: as safe as for one, with one sync for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from riverlog.base.ids import Offset, PartitionId
from riverlog.env.entropy import SeededEntropy
from riverlog.storage.contract import LogConfig, TopicLog
from riverlog.storage.local import saving
from riverlog.testing.conformance.log_engine import TOPIC, append_of, appended, values_in
from riverlog.testing.fakes import CrashableFiles, Unsynced
from riverlog.testing.local_world import DIRECTORY, LocalWorld

PARTITIONS = saving.together_min + 6


def topic(count: int = PARTITIONS) -> TopicLog:
    return TopicLog(
        topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=count, config=LogConfig(index_interval_bytes=50)
    )


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 120))


def ids() -> list[PartitionId]:
    return [PartitionId(TOPIC.topic_id, index) for index in range(PARTITIONS)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("unsynced", list(Unsynced))
def test_what_a_checkpoint_of_many_partitions_says_survives(
    together: bool, unsynced: Unsynced, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        if not together:  # a system without such a call
            monkeypatch.setattr(CrashableFiles, "sync_all", lambda self, path: False)
        world = LocalWorld([topic()])
        engine = await world.start()
        for number in range(3):
            await appended(engine, [append_of(one, f"{number}", producer=(7, 0, number)) for one in ids()])
        before = engine.counters.checkpoints
        await engine.checkpoints.write()
        assert engine.counters.checkpoints == before + 1
        assert all(partition.snapshot_offsets == [3] for partition in engine.partitions.values())
        await world.kill(unsynced, SeededEntropy(1))
        engine = await world.start()
        assert engine.counters.recovered_bytes == 0
        assert engine.counters.offline_partitions == 0
        for one in ids():
            assert await values_in(engine, one) == ["0", "1", "2"]
            assert [(state.producer_id, state.last_sequence) for state in engine.producers(one)] == [(7, 2)]
        await world.stop()
        left = [path for path in world.files.dump(DIRECTORY) if path.endswith(".tmp")]
        assert left == []

    run(story)


def test_untouched_partitions_cost_an_unclean_start_no_file_and_their_epochs_are_kept() -> None:
    async def story() -> None:
        world = LocalWorld([topic(3)])
        chosen = ids()[:3]
        engine = await world.start()
        await appended(engine, [append_of(one, "a") for one in chosen])
        await world.stop()
        epochs = f"{DIRECTORY}/topics/rivers-0/leader-epoch-checkpoint"
        content = world.files.read(epochs)
        for number in (1, 2):  # two crashes, and nothing was written since
            await world.start()
            await world.kill()
            assert world.files.read(epochs) == content, number
        engine = await world.start()
        assert engine.watermarks(chosen[0]).leader_epoch == 2
        await appended(engine, [append_of(chosen[0], "b")])
        await engine.checkpoints.write()
        assert world.files.read(epochs) != content
        await world.stop()
        engine = await world.start()
        for one, end in ((chosen[0], 2), (chosen[1], 1)):
            assert engine.watermarks(one).leader_epoch == 2
            assert engine.epoch_end(one, 0).end_offset == Offset(1)
            assert engine.epoch_end(one, 2).end_offset == Offset(end)
        await world.stop()

    run(story)
