"""What the kernels give back and what they raise: one set of types for both twins.

Columns are `array('q')`, one entry a batch or a record, all of one length. Positions count bytes from the start of
the buffer that the kernel was given.
"""

from __future__ import annotations

from array import array
from enum import IntEnum
from typing import Final, NamedTuple


class WalkEnd(IntEnum):
    """Why a walk over batches stopped."""

    END = 0  # the buffer is used up
    HEADER_CUT = 1  # fewer than 61 bytes are left
    BATCH_CUT = 2  # the batch goes on behind the buffer
    LENGTH = 3  # the length is smaller than a header
    MAGIC = 4  # another format


class Batches(NamedTuple):
    """The headers of the whole batches that follow one another in a buffer. `end` is the position behind the last
    one, `stopped` why the walk went no further. Nothing but length and magic was checked; `crcs` are those of the
    headers."""

    end: int
    stopped: WalkEnd
    positions: array[int]
    sizes: array[int]  # of the whole batch, header and all
    base_offsets: array[int]
    last_offset_deltas: array[int]
    leader_epochs: array[int]
    crcs: array[int]  # unsigned
    attributes: array[int]
    base_timestamps: array[int]
    max_timestamps: array[int]
    producer_ids: array[int]
    producer_epochs: array[int]
    base_sequences: array[int]
    record_counts: array[int]


class Spans(NamedTuple):
    """Where the parts of each record lie. A length of -1 is null; its start is where the bytes would be."""

    offset_deltas: array[int]
    timestamp_deltas: array[int]
    key_starts: array[int]
    key_lengths: array[int]
    value_starts: array[int]
    value_lengths: array[int]
    header_starts: array[int]  # of the first header, behind the count
    header_counts: array[int]
    ends: array[int]  # behind the record


class TimestampedDelta(NamedTuple):
    """A record by its time: `offset_delta` counts from the batch's base offset, `timestamp` is absolute."""

    offset_delta: int
    timestamp: int


class Fault(IntEnum):
    """What is wrong with a record. Both twins find the same fault at the same record."""

    NONE = 0
    COUNT = 1
    NUMBER_CUT = 2
    NUMBER_LONG = 3
    LENGTH = 4
    KEY = 5
    VALUE = 6
    HEADER_COUNT = 7
    HEADER_KEY = 8
    HEADER_VALUE = 9
    LEFT_OVER = 10
    TIMESTAMP = 11
    TRAILING = 12


_FAULT_TEXTS: Final = {
    Fault.NONE: "nothing is wrong",
    Fault.COUNT: "the number of records is negative",
    Fault.NUMBER_CUT: "a number is cut off",
    Fault.NUMBER_LONG: "a number has more bits than its type",
    Fault.LENGTH: "its length is negative, or more than what is left of the batch",
    Fault.KEY: "its key goes on behind its end",
    Fault.VALUE: "its value goes on behind its end",
    Fault.HEADER_COUNT: "its number of headers is negative, or more than its bytes can hold",
    Fault.HEADER_KEY: "the key of a header is null, or goes on behind the record's end",
    Fault.HEADER_VALUE: "the value of a header goes on behind the record's end",
    Fault.LEFT_OVER: "its length counts bytes behind its last header",
    Fault.TIMESTAMP: "its timestamp does not fit into 64 bits",
    Fault.TRAILING: "bytes follow the last record that the batch's header counts",
}


class MalformedRecord(ValueError):
    """The records section of a batch is not what the format says. `index` counts records from 0."""

    def __init__(self, index: int, fault: int) -> None:
        self.index = index
        self.fault = Fault(fault)
        super().__init__(f"record {index}: {_FAULT_TEXTS[self.fault]}")

    def __reduce__(self) -> tuple[type[MalformedRecord], tuple[int, int]]:
        return MalformedRecord, (self.index, int(self.fault))
