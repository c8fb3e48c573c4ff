"""One partition's part in a commit."""

from __future__ import annotations

import asyncio
import errno

from riverlog.storage.contract import Acks, LogConfig, TopicLog
from riverlog.storage.local import committing
from riverlog.storage.local.commit_plan import PendingBytes
from riverlog.testing.conformance.log_engine import P0, TOPIC, append_of, settled
from riverlog.testing.local_world import LocalWorld


def test_what_is_pending_is_told_by_segment_and_taken_once() -> None:
    async def story() -> None:
        topic = TopicLog(
            topic_id=TOPIC.topic_id, name=TOPIC.name, partition_count=1, config=LogConfig(segment_bytes=200)
        )
        world = LocalWorld([topic])
        engine = await world.start()
        engine.checkpoints.want = lambda: None  # type: ignore[method-assign]
        await settled(engine.append([append_of(P0, "a")], Acks.ALL))
        partition = engine.partitions[P0]
        assert committing.pending_bytes(partition) is None
        for value in "bcd":
            partition.append(append_of(P0, value).batch, append_of(P0, value).header, 1)
        size = partition.segments[0].size // 2
        assert [run[1:] for run in committing.runs_of(partition)] == [(size, size, 1, 2), (0, 2 * size, 2, 4)]
        assert committing.pending_bytes(partition) == PendingBytes(3 * size, 3)
        journal = committing.begin_journal(partition)
        assert (journal.bytes, partition.unsynced_bytes, partition.committing) == (3 * size, 0, True)
        assert committing.give_back(journal)
        assert (partition.unsynced_bytes, partition.committing) == (3 * size, False)
        journal = committing.begin_journal(partition)
        settling = committing.begin_settling(partition)
        assert settling is not None
        assert committing.begin_settling(partition) is None
        committing.sync_pending(engine.files, [settling])
        committing.end(settling)
        assert partition.synced == partition.durable
        assert partition.durable.offset == 4
        assert not committing.give_back(journal)
        assert engine.counters.unsynced_bytes == 0
        await world.stop()

    asyncio.run(asyncio.wait_for(story(), 60))


def test_what_the_journal_gives_back_while_its_segments_are_being_synced_is_unsynced_no_longer_than_they() -> None:
    """Else it takes room from appends for ever: nothing of it is pending any more."""

    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        partition = engine.partitions[P0]
        partition.append(append_of(P0, "a").batch, append_of(P0, "a").header, 1)
        journal = committing.begin_journal(partition)
        settling = committing.begin_settling(partition)
        assert settling is not None
        assert committing.give_back(journal)
        assert engine.counters.unsynced_bytes == partition.unsynced_bytes > 0
        committing.sync_pending(engine.files, [settling])
        committing.end(settling)
        assert committing.pending_bytes(partition) is None
        assert engine.counters.unsynced_bytes == partition.unsynced_bytes == partition.unsynced_messages == 0
        await world.stop()

    asyncio.run(asyncio.wait_for(story(), 60))


def test_an_error_stays_with_its_partition() -> None:
    async def story() -> None:
        world = LocalWorld([TOPIC])
        engine = await world.start()
        pending = []
        for partition in list(engine.partitions.values())[:2]:
            partition.append(append_of(partition.id, "a").batch, append_of(partition.id, "a").header, 1)
            pending.append(committing.begin_segments(partition))
        world.files.inject("sync", f"{TOPIC.name}-0/", errno.EIO)
        committing.sync_pending(engine.files, pending)
        assert [one.error is None for one in pending] == [False, True]
        for one in pending:
            committing.release(one)
        await world.kill()

    asyncio.run(asyncio.wait_for(story(), 60))
