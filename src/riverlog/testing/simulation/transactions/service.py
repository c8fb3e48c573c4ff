"""What clients have of the broker in one life of it, and what they share with the checker.

Invariant: nothing of it outlives its life. Not here: what clients do with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from riverlog.base.errors import RiverlogError
from riverlog.base.ids import PartitionId, TopicName
from riverlog.broker.broker import Broker
from riverlog.broker.group_requests import MemberAsked, PartitionCommit, TopicAsked, TopicCommit
from riverlog.env.entropy import Entropy
from riverlog.state.access import LIBRARY_CALLER
from riverlog.testing.simulation.loop import Time
from riverlog.testing.simulation.transactions.ledger import Committed, Ledger, Place

CALLER = LIBRARY_CALLER
NOBODY = MemberAsked()


class Service:
    """`budget` counts down: at 0 everybody comes to an end of what they do, and begins nothing."""

    def __init__(
        self, broker: Broker, time: Time, entropy: Entropy, ledger: Ledger, note: Callable[[str], None], budget: int
    ) -> None:
        self.broker = broker
        self.time = time
        self.entropy = entropy
        self.ledger = ledger
        self.note = note
        self.budget = budget
        self.excused: Callable[[], bool] = lambda: False  # the disk may have refused something
        self.peril: Callable[[Iterable[PartitionId]], None] = lambda partitions: None  # a good moment to crash

    def chance(self, one_in: int) -> bool:
        return not self.entropy.below(one_in)

    def spend(self) -> bool:
        """Whether there is something left to be done."""
        self.budget -= 1
        return self.budget >= 0

    async def pause(self, milliseconds_max: int) -> None:
        await self.time.sleep(self.entropy.below(milliseconds_max) / 1000)

    def name_of(self, partition: PartitionId) -> TopicName:
        return self.broker.topics.by_id[partition.topic_id].name

    def partitions(self, name: str) -> Sequence[PartitionId]:
        topic = self.broker.topics.by_name[TopicName(name)]
        return [PartitionId(topic.topic_id, index) for index in range(topic.partition_count)]

    def to_commit(self, partition: PartitionId, offset: int, metadata: str) -> Sequence[TopicCommit]:
        return [TopicCommit(self.name_of(partition), None, [PartitionCommit(partition.index, offset, -1, metadata)])]

    async def committed(self, place: Place, *, stable: bool) -> Committed | None:
        """What the group has there. Raises RiverlogError, also for an offset that is not stable."""
        asked = [TopicAsked(self.name_of(place.partition), None, [place.partition.index])]
        groups = self.broker.groups
        (topic,) = await groups.fetch_offsets(CALLER, place.group, asked, require_stable=stable)
        (found,) = topic.partitions
        if found.error is not None:
            raise RiverlogError(found.error, f"the offset of {place} was not told")
        if found.committed is None or found.committed.offset < 0:
            return None
        return Committed(found.committed.offset, found.committed.metadata)
