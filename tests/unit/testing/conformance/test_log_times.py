"""The suite of times finds an engine that is exact to the batch only, and one that forgets the log start."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from riverlog.base.ids import Offset, PartitionId
from riverlog.env.clock import Clock
from riverlog.records.compression import Compression
from riverlog.storage.contract import LogEngine, TimestampedOffset, TopicLog
from riverlog.storage.memory import MemoryEngine
from riverlog.testing.conformance.log_times import LogTimesSuite


class ExactToTheBatch(MemoryEngine):
    async def offset_for_time(self, partition: PartitionId, timestamp_ms: int) -> TimestampedOffset | None:
        for header in self.partitions[partition].headers:
            if header.max_timestamp >= timestamp_ms:
                return TimestampedOffset(Offset(header.base_offset), header.max_timestamp, 0)
        return None


class Suite(LogTimesSuite):
    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        engine = ExactToTheBatch(clock=clock)
        for topic in topics:
            await engine.open_topic(topic)
        return engine


def test_the_suite_finds_it() -> None:
    for test in (
        lambda: Suite().test_offsets_by_time_are_exact_to_the_record(Compression.NONE),
        lambda: Suite().test_what_lies_before_the_log_start_is_of_no_time(Compression.GZIP),
        lambda: Suite().test_any_history_is_searched_as_a_plain_list_is(1),
    ):
        with pytest.raises(AssertionError):
            test()
