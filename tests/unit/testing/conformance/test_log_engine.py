"""The suite finds an engine that breaks the contract; its helpers read what clients would."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from riverlog.base.ids import Offset
from riverlog.env.clock import Clock
from riverlog.storage.contract import Acks, Append, Appended, Fence, LogEngine, Refused, Slices, TopicLog
from riverlog.storage.memory import MemoryEngine
from riverlog.testing.conformance.log_engine import LogEngineSuite, batch_of, batches_in, content


class Forgetful(MemoryEngine):
    """Answers, and keeps nothing."""

    def append(
        self, appends: Sequence[Append], acks: Acks, fences: Sequence[Fence] = ()
    ) -> Sequence[Appended | Refused]:
        return [Appended(Offset(0), Offset(one.header.record_count), Offset(0)) for one in appends]


class ForgetfulSuite(LogEngineSuite):
    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        engine = Forgetful(clock=clock)
        for topic in topics:
            await engine.open_topic(topic)
        return engine


def test_the_suite_finds_an_engine_that_keeps_nothing() -> None:
    suite = ForgetfulSuite()
    for test in (
        suite.test_offsets_follow_the_order_of_the_calls,
        suite.test_what_was_answered_with_acks_all_is_visible,
        suite.test_every_record_is_read_whatever_the_budget,
        suite.test_a_duplicate_is_answered_with_its_old_offsets,
    ):
        with pytest.raises(AssertionError):
            test()


def test_a_batch_that_is_cut_is_left_out_as_clients_do() -> None:
    data = bytes(batch_of("a")) + bytes(batch_of("b"))
    assert len(batches_in(data)) == 2
    assert len(batches_in(data[:-1])) == 1
    assert batches_in(data[:30]) == []
    assert content(Slices((data[:10], memoryview(data)[10:]), len(data))) == data
