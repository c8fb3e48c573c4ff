"""Answers in the same words from every engine."""

from __future__ import annotations

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import Offset, TopicId
from riverlog.records.header import read_header
from riverlog.state.producers import Producers
from riverlog.storage.answers import not_readable, out_of_range, states_of, unknown
from riverlog.storage.contract import ProducerState
from riverlog.testing.conformance.log_engine import batch_of


def test_offsets_in_range() -> None:
    for offset in (3, 5, 7):
        assert out_of_range("t-0", 3, 7, offset) is None
    for offset in (2, 8, -1):
        error = out_of_range("t-0", 3, 7, offset)
        assert error is not None
        assert error.kind is ErrorKind.OFFSET_OUT_OF_RANGE
        assert f"t-0 holds offsets 3 to 7, {offset} was asked for" in error.message


def test_words_name_what_is_meant() -> None:
    assert unknown(TopicId(b"0123456789abcdef")).kind is ErrorKind.UNKNOWN_TOPIC
    assert "t-0 is readable up to 5, 9 lies behind" in not_readable("t-0", 5, 9).message


def test_states_of_producers() -> None:
    producers = Producers()
    producers.apply(read_header(batch_of("a", "b", producer=(7, 2, 0))), Offset(0), 99)
    assert states_of(producers) == [ProducerState(7, 2, 1, 99, -1)]  # type: ignore[arg-type]  # plain numbers
