"""Which epoch wrote an offset, and where an epoch ends: what OffsetForLeaderEpoch answers."""

import pytest

from riverlog.base.ids import LeaderEpoch, Offset
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.leader_epochs import EpochEntry, LeaderEpochs


def epochs_of(*entries: tuple[int, int]) -> LeaderEpochs:
    return LeaderEpochs([EpochEntry(LeaderEpoch(epoch), Offset(start)) for epoch, start in entries])


def test_the_file_is_kafkas_text() -> None:
    epochs = epochs_of((0, 0), (3, 1200))
    assert epochs.encode() == b"0\n2\n0 0\n3 1200\n"
    assert LeaderEpochs.decode(epochs.encode()).entries == epochs.entries
    assert LeaderEpochs.decode(b"0\n0\n").entries == []
    assert LeaderEpochs.decode(b"0\n1\n5 0").entries == [(5, 0)], "without the last newline too"


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (b"", 0),
        (b"1\n0\n", 0),
        (b"0\n2\n0 0\n", 2),
        (b"0\nx\n", 2),
        (b"0\n1\n0 x\n", 4),
        (b"0\n1\n-1 0\n", 4),
        (b"0\n1\n0  0\n", 4),
        (b"0\n2\n1 0\n1 5\n", 8),
        (b"0\n2\n1 5\n2 5\n", 8),
        (b"0\n1\n0 9223372036854775808\n", 4),
        ("0\n1\n٣ 0\n".encode(), 4),
    ],
)
def test_other_bytes_are_refused_with_their_place(data: bytes, position: int) -> None:
    with pytest.raises(FormatError) as raised:
        LeaderEpochs.decode(data)
    assert raised.value.position == position


def test_the_end_of_an_epoch_is_where_the_next_begins() -> None:
    epochs = epochs_of((2, 10), (4, 50), (7, 90))
    log_end = Offset(120)
    assert [epochs.end_of(epoch, log_end) for epoch in (7, 4, 5, 6, 2, 3, 1, 0, 8, -1)] == [
        *[(7, 120), (4, 90), (4, 90), (4, 90), (2, 50), (2, 50), (1, 10), (0, 10), (-1, -1), (-1, -1)]
    ]
    assert epochs_of().end_of(0, log_end) == (-1, -1)
    assert epochs_of().end_of(-1, log_end) == (-1, -1)


def test_the_epoch_of_an_offset() -> None:
    epochs = epochs_of((2, 10), (4, 50))
    assert [epochs.epoch_of(Offset(at)) for at in (9, 10, 49, 50, 99)] == [-1, 2, 2, 4, 4]


def test_a_new_epoch_begins_at_the_log_end() -> None:
    epochs = epochs_of()
    assert epochs.latest == -1
    assert epochs.assign(LeaderEpoch(0), Offset(0))
    assert not epochs.assign(LeaderEpoch(0), Offset(7)), "it goes on"
    assert epochs.assign(LeaderEpoch(1), Offset(7))
    assert epochs.assign(LeaderEpoch(2), Offset(7)), "epoch 1 got no record"
    assert epochs.entries == [(0, 0), (2, 7)]
    with pytest.raises(ValueError, match="after 2"):
        epochs.assign(LeaderEpoch(1), Offset(9))


def test_truncation_from_the_end_and_from_the_start() -> None:
    for end, left in ((91, 3), (90, 2), (10, 0)):
        epochs = epochs_of((2, 10), (4, 50), (7, 90))
        assert epochs.truncate_to(Offset(end)) == (left < 3)
        assert len(epochs.entries) == left
    for start, entries in (
        (9, [(2, 10), (4, 50), (7, 90)]),
        (10, [(2, 10), (4, 50), (7, 90)]),
        (11, [(2, 11), (4, 50), (7, 90)]),
        (50, [(4, 50), (7, 90)]),
        (200, [(7, 200)]),
    ):
        epochs = epochs_of((2, 10), (4, 50), (7, 90))
        assert epochs.truncate_before(Offset(start)) == (start > 10)
        assert epochs.entries == entries
