"""Idempotent producers: what Kafka 4 takes, answers again, and refuses."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import Offset, ProducerId
from riverlog.records.header import CONTROL_BIT, TRANSACTIONAL_BIT, BatchHeader
from riverlog.state.producers import BatchMark, Completed, Duplicate, ProducerEntry, Producers

NOW_MS = 1_700_000_000_000
WRAP = 2**31


def header(sequence: int, count: int = 1, *, producer_id: int = 7, epoch: int = 0, attributes: int = 0) -> BatchHeader:
    return BatchHeader(0, 100, 0, 2, 0, attributes, count - 1, 0, 0, producer_id, epoch, sequence, count)


class Partition:
    """A log end and its producers, as an engine uses them."""

    def __init__(self) -> None:
        self.producers = Producers()
        self.end = 0

    def append(self, batch: BatchHeader, now_ms: int = NOW_MS) -> Duplicate | RiverlogError | int:
        """The base offset where it was appended, else what was answered."""
        answer = self.producers.check(batch)
        if answer is not None:
            return answer
        base_offset = self.end
        self.producers.apply(batch, Offset(base_offset), now_ms)
        self.end += batch.last_offset_delta + 1
        return base_offset


def kind_of(answer: Duplicate | RiverlogError | int) -> ErrorKind | None:
    return answer.kind if isinstance(answer, RiverlogError) else None


def test_batches_without_a_producer_are_not_remembered() -> None:
    partition = Partition()
    assert partition.append(header(-1, 3, producer_id=-1, epoch=-1)) == 0
    assert partition.append(header(-1, 3, producer_id=-1, epoch=-1)) == 3
    assert len(partition.producers) == 0
    assert partition.producers.next_offset == 6


def test_sequences_go_on_without_gaps() -> None:
    partition = Partition()
    assert partition.append(header(0, 5)) == 0
    assert partition.append(header(5, 2)) == 5
    refused = partition.append(header(8))
    assert kind_of(refused) is ErrorKind.OUT_OF_ORDER_SEQUENCE
    assert "sequence 8 where 7 is next" in str(refused)
    assert partition.append(header(7)) == 7


def test_the_last_five_batches_are_answered_with_their_old_offsets() -> None:
    partition = Partition()
    for at in range(7):
        assert partition.append(header(at * 2, 2)) == at * 2
    for at in range(2, 7):
        assert partition.append(header(at * 2, 2)) == Duplicate(Offset(at * 2), Offset(at * 2 + 2))
    for at in range(2):
        assert kind_of(partition.append(header(at * 2, 2))) is ErrorKind.OUT_OF_ORDER_SEQUENCE
    assert partition.end == 14


def test_a_batch_that_begins_like_an_old_one_and_ends_elsewhere_is_no_duplicate() -> None:
    partition = Partition()
    partition.append(header(0, 5))
    assert kind_of(partition.append(header(0, 6))) is ErrorKind.OUT_OF_ORDER_SEQUENCE
    assert kind_of(partition.append(header(0, 4))) is ErrorKind.OUT_OF_ORDER_SEQUENCE


def test_an_unknown_producer_may_begin_with_any_sequence() -> None:
    partition = Partition()
    assert partition.append(header(1000, 5, epoch=3)) == 0
    assert partition.append(header(1005, epoch=3)) == 5


def test_a_new_epoch_begins_with_sequence_zero_and_forgets_the_old_batches() -> None:
    partition = Partition()
    partition.append(header(0, 5))
    assert kind_of(partition.append(header(5, epoch=1))) is ErrorKind.OUT_OF_ORDER_SEQUENCE
    assert partition.append(header(0, 5, epoch=1)) == 5
    assert partition.append(header(0, 5, epoch=1)) == Duplicate(Offset(5), Offset(10))
    refused = partition.append(header(5, epoch=0))
    assert kind_of(refused) is ErrorKind.INVALID_PRODUCER_EPOCH
    assert "replaced by epoch 1" in str(refused)


def test_an_old_epoch_is_fenced_even_with_what_would_be_a_duplicate() -> None:
    partition = Partition()
    partition.append(header(0, 5))
    partition.append(header(0, 5, epoch=1))
    assert kind_of(partition.append(header(0, 5, epoch=0))) is ErrorKind.INVALID_PRODUCER_EPOCH


def test_sequences_wrap_at_the_end_of_int32() -> None:
    partition = Partition()
    assert partition.append(header(WRAP - 3, 3)) == 0
    assert partition.append(header(0, 2)) == 3
    other = Partition()
    assert other.append(header(WRAP - 2, 5)) == 0, "inside a batch"
    assert kind_of(other.append(header(2))) is ErrorKind.OUT_OF_ORDER_SEQUENCE
    assert other.append(header(WRAP - 2, 5)) == Duplicate(Offset(0), Offset(5))
    assert other.append(header(3)) == 5
    assert BatchMark(WRAP - 2, Offset(0), 4).last_sequence == 2


@pytest.mark.parametrize(("epoch", "sequence"), [(-1, 0), (0, -1), (-1, -1)])
def test_an_idempotent_batch_without_epoch_or_sequence_is_invalid(epoch: int, sequence: int) -> None:
    assert kind_of(Partition().append(header(sequence, epoch=epoch))) is ErrorKind.INVALID_RECORD


def test_producers_do_not_know_of_each_other() -> None:
    partition = Partition()
    assert partition.append(header(0, producer_id=1)) == 0
    assert partition.append(header(0, producer_id=2)) == 1
    assert partition.append(header(0, producer_id=1)) == Duplicate(Offset(0), Offset(1))


def test_check_changes_nothing() -> None:
    producers = Producers()
    assert producers.check(header(5)) is None
    assert (len(producers), producers.next_offset) == (0, 0)


def test_an_idle_producer_is_forgotten_by_the_wall_clock_of_its_appends() -> None:
    partition = Partition()
    partition.append(header(0, producer_id=1), NOW_MS)
    partition.append(header(0, producer_id=2), NOW_MS + 500)
    assert partition.producers.expire(NOW_MS + 999, 1000) == 0
    assert partition.producers.expire(NOW_MS + 1000, 1000) == 1
    assert partition.producers.get(ProducerId(1)) is None
    assert partition.append(header(77, producer_id=1)) == 2, "unknown again: any sequence"


def test_a_snapshot_holds_all_that_is_known() -> None:
    partition = Partition()
    for at in range(7):
        partition.append(header(at, epoch=2))
    partition.append(header(0, 3, producer_id=8))
    entries = list(partition.producers.entries())
    assert entries == [
        ProducerEntry(
            ProducerId(7), 2, NOW_MS, -1, Offset(-1), tuple(BatchMark(at, Offset(at), 0) for at in range(2, 7))
        ),
        ProducerEntry(ProducerId(8), 0, NOW_MS, -1, Offset(-1), (BatchMark(0, Offset(7), 2),)),
    ]
    restored = Partition()
    restored.producers.restore(entries, Offset(10))
    restored.end = 10
    assert restored.producers.next_offset == 10
    assert list(restored.producers.entries()) == entries
    assert restored.append(header(2, epoch=2)) == Duplicate(Offset(2), Offset(3))
    assert restored.append(header(7, epoch=2)) == 10
    assert restored.append(header(3, producer_id=8)) == 11


def test_restore_forgets_what_was_before() -> None:
    partition = Partition()
    partition.append(header(0, attributes=TRANSACTIONAL_BIT))
    partition.producers.restore([], Offset(4))
    assert (len(partition.producers), partition.producers.next_offset) == (0, 4)
    assert partition.producers.last_stable_offset(Offset(9)) == 9
    partition.producers.clear()
    assert partition.producers.next_offset == 0


class TestTransactions:
    """First offsets, markers, the last stable offset."""

    def test_a_transactional_batch_opens_one_and_a_marker_ends_it(self) -> None:
        partition = Partition()
        partition.append(header(-1, 4, producer_id=-1, epoch=-1))
        partition.append(header(0, 2, attributes=TRANSACTIONAL_BIT))
        partition.append(header(2, 2, attributes=TRANSACTIONAL_BIT))
        producers = partition.producers
        assert producers.last_stable_offset(Offset(8)) == 4
        entry = producers.get(ProducerId(7))
        assert entry is not None
        assert entry.transaction_first_offset == 4
        marker = header(-1, attributes=TRANSACTIONAL_BIT | CONTROL_BIT)
        assert producers.check(marker) is None
        done = producers.end_transaction(marker, Offset(8), NOW_MS, 3)
        assert done == Completed(ProducerId(7), Offset(4), Offset(8), Offset(9))
        assert producers.next_offset == 9
        assert producers.last_stable_offset(Offset(8)) == 4, "the marker is not visible yet"
        assert producers.last_stable_offset(Offset(9)) == 9
        assert producers.end_transaction(marker, Offset(9), NOW_MS) is None, "an empty transaction"
        entry = producers.get(ProducerId(7))
        assert entry is not None
        assert (entry.coordinator_epoch, entry.transaction_first_offset) == (3, -1)
        partition.end = 10
        assert partition.append(header(4, attributes=TRANSACTIONAL_BIT)) == 10, "sequences go on after a marker"

    def test_the_oldest_open_one_holds_back_the_others(self) -> None:
        partition = Partition()
        partition.append(header(0, producer_id=1, attributes=TRANSACTIONAL_BIT))
        partition.append(header(0, producer_id=2, attributes=TRANSACTIONAL_BIT))
        marker = header(-1, producer_id=1, attributes=TRANSACTIONAL_BIT | CONTROL_BIT)
        partition.producers.apply(marker, Offset(2), NOW_MS)
        assert partition.producers.last_stable_offset(Offset(2)) == 0
        assert partition.producers.last_stable_offset(Offset(3)) == 1
        restored = Producers()
        restored.restore(partition.producers.entries(), Offset(3))
        assert restored.last_stable_offset(Offset(3)) == 1

    def test_a_plain_batch_inside_one_is_refused(self) -> None:
        partition = Partition()
        partition.append(header(0, attributes=TRANSACTIONAL_BIT))
        assert kind_of(partition.append(header(1))) is ErrorKind.INVALID_TXN_STATE

    def test_a_marker_of_a_later_epoch_raises_the_producers(self) -> None:
        partition = Partition()
        partition.append(header(0, 5, attributes=TRANSACTIONAL_BIT))
        marker = header(-1, epoch=1, attributes=TRANSACTIONAL_BIT | CONTROL_BIT)
        partition.producers.apply(marker, Offset(5), NOW_MS)
        entry = partition.producers.get(ProducerId(7))
        assert entry == ProducerEntry(ProducerId(7), 1, NOW_MS)
        partition.end = 6
        assert kind_of(partition.append(header(5, epoch=1))) is ErrorKind.OUT_OF_ORDER_SEQUENCE
        assert partition.append(header(0, epoch=1)) == 6

    def test_a_marker_of_an_earlier_epoch_is_fenced(self) -> None:
        partition = Partition()
        partition.append(header(0, epoch=5))
        marker = header(-1, epoch=4, attributes=TRANSACTIONAL_BIT | CONTROL_BIT)
        answer = partition.producers.check(marker)
        assert isinstance(answer, RiverlogError)
        assert answer.kind is ErrorKind.INVALID_PRODUCER_EPOCH

    def test_a_producer_with_an_open_one_does_not_expire(self) -> None:
        partition = Partition()
        partition.append(header(0, attributes=TRANSACTIONAL_BIT))
        assert partition.producers.expire(NOW_MS * 2, 1000) == 0

    def test_what_becomes_of_a_marker(self) -> None:
        partition = Partition()
        check, who = partition.producers.check_marker, ProducerId(7)
        marker = header(-1, epoch=1, attributes=TRANSACTIONAL_BIT | CONTROL_BIT)
        assert check(who, 0, 1) is True, "a producer that is not known here"
        partition.append(header(0, epoch=1, attributes=TRANSACTIONAL_BIT))
        assert check(who, 1, 1) is True
        partition.producers.end_transaction(marker, Offset(1), NOW_MS, 5)
        assert check(who, 1, 5) is False, "it was told before"
        assert check(who, 2, 5) is True, "it raises the epoch"
        assert check(who, 1, 6) is True, "it raises the coordinator's"
        refused = {
            (0, 5): ErrorKind.INVALID_PRODUCER_EPOCH,
            (1, 4): ErrorKind.TRANSACTION_COORDINATOR_FENCED,
            (-1, 5): ErrorKind.INVALID_RECORD,
        }
        for (epoch, coordinator), kind in refused.items():
            answer = check(who, epoch, coordinator)
            assert isinstance(answer, RiverlogError)
            assert answer.kind is kind
        assert isinstance(check(ProducerId(-1), 0, 5), RiverlogError)

    def test_transactions_that_end_in_another_order_than_they_began(self) -> None:
        partition = Partition()
        stable = partition.producers.last_stable_offset
        for producer_id in (1, 2, 3):
            partition.append(header(0, producer_id=producer_id, attributes=TRANSACTIONAL_BIT))
        for offset, producer_id in ((3, 2), (4, 1), (5, 3)):
            marker = header(-1, producer_id=producer_id, attributes=TRANSACTIONAL_BIT | CONTROL_BIT)
            done = partition.producers.end_transaction(marker, Offset(offset), NOW_MS)
            assert done is not None
            assert done.stable_offset == {3: 0, 4: 2, 5: 6}[offset]
        assert partition.producers.unstable_offsets() >= {0, 2}
        assert [stable(Offset(high)) for high in (3, 4, 5, 6)] == [0, 0, 2, 6]
        assert partition.producers.unstable_offsets() == set()
        assert partition.producers.newest_open == -1
        assert partition.producers.open_offsets() == []

    def test_who_is_open(self) -> None:
        partition = Partition()
        for producer_id in (1, 2):
            partition.append(header(0, producer_id=producer_id, attributes=TRANSACTIONAL_BIT))
        producers = partition.producers
        assert (producers.newest_open, producers.first_open_or(Offset(9)), producers.open_offsets()) == (1, 0, [0, 1])
        producers.apply(header(-1, producer_id=1, attributes=TRANSACTIONAL_BIT | CONTROL_BIT), Offset(2), NOW_MS)
        producers.note_coordinator(ProducerId(1), 4)
        producers.note_coordinator(ProducerId(1), 3)
        entry = producers.get(ProducerId(1))
        assert entry is not None
        assert entry.coordinator_epoch == 4
        assert (producers.newest_open, producers.first_open_or(Offset(9))) == (1, 1)


def test_where_the_last_batch_of_a_producer_ends() -> None:
    producers = Producers()
    assert producers.end_of(ProducerId(7)) == 0
    for base_offset, sequence in ((10, 0), (20, 3)):
        producers.apply(header(sequence, 3), Offset(base_offset), NOW_MS)
    assert producers.end_of(ProducerId(7)) == 23
    restored = Producers()
    restored.restore(producers.entries(), producers.next_offset)
    assert restored.end_of(ProducerId(7)) == 23
