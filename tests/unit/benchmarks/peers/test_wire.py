"""The hand-written protocol of the load drivers, checked with aiokafka's codec and not with ours."""

from __future__ import annotations

import struct

import pytest
from aiokafka.record.memory_records import MemoryRecords

from benchmarks.peers import wire


def test_a_batch_is_read_back_by_aiokafka() -> None:
    values = [b"first", b"", b"x" * 300]
    records = MemoryRecords(wire.batch(values, timestamp_ms=1_700_000_000_000))
    batch = records.next_batch()
    assert batch is not None
    assert batch.validate_crc()
    assert [(record.offset, record.timestamp, record.key, record.value) for record in batch] == [
        (index, 1_700_000_000_000, None, value) for index, value in enumerate(values)
    ]
    assert not records.has_next()


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "00"), (-1, "01"), (1, "02"), (63, "7e"), (64, "8001"), (-65, "8101")]
)
def test_zigzag_varints(value: int, encoded: str) -> None:
    assert wire.zigzag(value).hex() == encoded


def test_a_frame_carries_its_length_and_header() -> None:
    frame = wire.frame(wire.API_VERSIONS, 0, 7, b"")
    assert struct.unpack(">ihhih", frame[:14]) == (len(frame) - 4, 18, 0, 7, 5)
    assert frame[14:] == b"bench"


def test_a_refused_produce_names_the_error() -> None:
    answer = struct.pack(">i", 1) + wire.text("t") + struct.pack(">iihqqi", 1, 0, 10, -1, -1, 0)
    with pytest.raises(RuntimeError, match="error 10"):
        wire.produced(answer)


def test_an_acknowledged_produce_gives_its_offset() -> None:
    answer = struct.pack(">i", 1) + wire.text("topic") + struct.pack(">iihqqi", 1, 0, 0, 42, -1, 0)
    assert wire.produced(answer) == 42
