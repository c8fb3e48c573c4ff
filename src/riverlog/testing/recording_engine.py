"""An engine without logs, for tests of what stands above one: it remembers what it was told of topics.

It knows partitions and their leader epochs, and nothing of records: reading and appending are not here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NodeId, Offset, PartitionId, TopicId
from riverlog.env.files import Volume
from riverlog.storage.contract import LogConfig, LogSize, TopicLog, Watermarks


class RecordingEngine:
    """`calls` are texts such as `open a 4`. `failures` counts down: that many `open_topic` raise `failure`.
    Partitions in `offline` raise STORAGE."""

    node_id = NodeId(1)
    bytes_each = 123  # the size of every partition

    def __init__(self) -> None:
        self.topics: dict[TopicId, TopicLog] = {}
        self.calls: list[str] = []
        self.failures = 0
        self.failure: Exception = RiverlogError(ErrorKind.STORAGE, "no space left on the disk: make room")
        self.leader_epoch = 0
        self.offline: set[PartitionId] = set()
        self.disk: Volume | None = Volume(1000, 400)

    def as_engine(self) -> Any:
        return self

    async def open_topic(self, topic: TopicLog) -> None:
        if self.failures:
            self.failures -= 1
            raise self.failure
        self.calls.append(f"open {topic.name} {topic.partition_count}")
        self.topics[topic.topic_id] = topic

    def configure(self, topic_id: TopicId, config: LogConfig) -> None:
        self.calls.append(f"configure {self.topics[topic_id].name}")
        self.topics[topic_id] = replace(self.topics[topic_id], config=config)

    async def delete_topic(self, topic_id: TopicId) -> None:
        if topic_id not in self.topics:
            raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, "no such topic is open")
        self.calls.append(f"delete {self.topics.pop(topic_id).name}")

    def watermarks(self, partition: PartitionId) -> Watermarks:
        self._check(partition)
        zero = Offset(0)
        return Watermarks(zero, zero, zero, zero, zero, self.leader_epoch)

    def size(self, partition: PartitionId) -> LogSize:
        self._check(partition)
        return LogSize(self.bytes_each, 1, Offset(0), Offset(0))

    async def volume(self) -> Volume | None:
        return self.disk

    def _check(self, partition: PartitionId) -> None:
        topic = self.topics.get(partition.topic_id)
        if topic is None or partition.index >= topic.partition_count:
            raise RiverlogError(ErrorKind.UNKNOWN_TOPIC, "no such partition is open")
        if partition in self.offline:
            raise RiverlogError(ErrorKind.STORAGE, "the partition is offline: run riverlog repair")
