"""The suite of transactions finds engines that read too far, name nothing, write every marker, or fence nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from riverlog.base.ids import Offset
from riverlog.env.clock import Clock
from riverlog.storage.contract import Appended, EndMarker, Fetched, Isolation, LogEngine, Read, Refused, TopicLog
from riverlog.storage.memory import MemoryEngine
from riverlog.testing.conformance.log_transactions import LogTransactionsSuite


class ReadsTooFar(MemoryEngine):
    def read(self, reads: Sequence[Read], bytes_max: int, isolation: Isolation) -> Fetched:
        found = self._read(reads, bytes_max, Isolation.READ_UNCOMMITTED)
        committed = isolation is Isolation.READ_COMMITTED
        return found._replace(
            partitions=[one._replace(aborted=() if committed else None) for one in found.partitions]
        )


class NamesNothing(MemoryEngine):
    def read(self, reads: Sequence[Read], bytes_max: int, isolation: Isolation) -> Fetched:
        found = self._read(reads, bytes_max, isolation)
        return found._replace(partitions=[one._replace(aborted=one.aborted and []) for one in found.partitions])


class ForgetsItsProducers(MemoryEngine):
    """So every marker is new."""

    def end_transactions(self, markers: Sequence[EndMarker]) -> Awaitable[Sequence[Appended | Refused]]:
        answer = super().end_transactions(markers)
        for partition in self.partitions.values():
            partition.producers.clear(Offset(partition.log_end))
        return answer


def suite_of(make: Callable[..., MemoryEngine]) -> LogTransactionsSuite:
    class Suite(LogTransactionsSuite):
        async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
            engine = make(clock=clock)
            for topic in topics:
                await engine.open_topic(topic)
            return engine

    return Suite()


def test_the_suite_finds_them() -> None:
    far, silent, forgetful = suite_of(ReadsTooFar), suite_of(NamesNothing), suite_of(ForgetsItsProducers)
    for test in (
        far.test_a_committed_transaction_is_seen_with_its_marker,
        far.test_interleaved_transactions_hold_back_each_other,
        silent.test_an_aborted_transaction_is_named,
        silent.test_a_fetch_in_the_middle_of_an_aborted_transaction_names_it,
        forgetful.test_a_marker_that_is_told_again_is_not_written_twice,
        forgetful.test_a_marker_of_a_replaced_producer_or_coordinator_is_refused,
        forgetful.test_what_a_bumped_marker_ended_cannot_be_written_to_any_more,
    ):
        with pytest.raises(AssertionError):
            test()
