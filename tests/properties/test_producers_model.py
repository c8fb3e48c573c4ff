"""The machine of idempotent producers against a model that keeps every batch and looks at all of them; and snapshots:
restoring one and replaying what came after is the same as having been there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset
from riverlog.records.header import BatchHeader
from riverlog.state.producers import Duplicate, Producers
from riverlog.storage.format import producer_snapshot

WRAP = 2**31


class Sent(NamedTuple):
    """What a producer does next: relative to where its sequence stands, so that hits are frequent."""

    producer_id: int
    epoch: int
    step: int  # added to the next sequence
    count: int


class Kept(NamedTuple):
    epoch: int
    sequence: int
    count: int
    base_offset: int


class Model:
    """Kafka's rules, said plainly over the whole history."""

    def __init__(self) -> None:
        self.history: dict[int, list[Kept]] = {}

    def next_sequence(self, producer_id: int) -> int:
        kept = self.history.get(producer_id)
        return (kept[-1].sequence + kept[-1].count) % WRAP if kept else 0

    def decide(self, sent: BatchHeader) -> ErrorKind | Duplicate | None:
        kept = self.history.get(sent.producer_id)
        if not kept:
            return None
        epoch = kept[-1].epoch
        if sent.producer_epoch < epoch:
            return ErrorKind.INVALID_PRODUCER_EPOCH
        if sent.producer_epoch > epoch:
            return None if sent.base_sequence == 0 else ErrorKind.OUT_OF_ORDER_SEQUENCE
        if sent.base_sequence == self.next_sequence(sent.producer_id):
            return None
        for old in reversed([old for old in kept if old.epoch == epoch][-5:]):
            if (old.sequence, old.count) == (sent.base_sequence, sent.record_count):
                return Duplicate(Offset(old.base_offset), Offset(old.base_offset + old.count))
        return ErrorKind.OUT_OF_ORDER_SEQUENCE


SENT = st.lists(
    st.builds(
        Sent,
        st.integers(1, 2),
        st.sampled_from([0, 0, 0, 0, 1, 2]),
        st.sampled_from([0, 0, 0, 0, -1, -2, -3, -4, -6, 1, WRAP - 4]),
        st.integers(1, 3),
    ),
    max_size=40,
)


def play(sent: Sequence[Sent]) -> list[tuple[BatchHeader, int]]:
    """Runs both, compares every answer; gives what was appended."""
    model, producers = Model(), Producers()
    appended: list[tuple[BatchHeader, int]] = []
    end = 0
    for producer_id, epoch, step, count in sent:
        sequence = (model.next_sequence(producer_id) + step) % WRAP
        batch = BatchHeader(0, 100, 0, 2, 0, 0, count - 1, 0, 0, producer_id, epoch, sequence, count)
        expected = model.decide(batch)
        answer = producers.check(batch)
        assert (answer.kind if isinstance(answer, RiverlogError) else answer) == expected, batch
        if answer is None:
            producers.apply(batch, Offset(end), end)
            model.history.setdefault(producer_id, []).append(Kept(epoch, sequence, count, end))
            appended.append((batch, end))
            end += count
    return appended


@settings(derandomize=True, max_examples=300, deadline=None)
@given(SENT)
def test_the_machine_answers_as_the_model(sent: list[Sent]) -> None:
    play(sent)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(SENT, st.integers(0, 40))
def test_a_snapshot_and_the_rest_of_the_log_give_the_whole_state(sent: list[Sent], cut: int) -> None:
    appended = play(sent)
    whole, before, restored = Producers(), Producers(), Producers()
    for batch, base_offset in appended:
        whole.apply(batch, Offset(base_offset), base_offset)
    for batch, base_offset in appended[:cut]:
        before.apply(batch, Offset(base_offset), base_offset)
    restored.restore(producer_snapshot.decode(producer_snapshot.encode(before.entries())), before.next_offset)
    for batch, base_offset in appended[cut:]:
        restored.apply(batch, Offset(base_offset), base_offset)
    assert list(restored.entries()) == list(whole.entries())
    assert restored.next_offset == whole.next_offset
