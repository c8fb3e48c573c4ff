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
    HEADER = 5  # offsets, an epoch or a count that cannot be there (`check_batches` alone looks)
    CRC = 6  # the bytes are not those that were signed (likewise)


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


class Checked(NamedTuple):
    """Whole batches that follow one another in a buffer, each with the CRC of its bytes. `end` is the position behind the
    last good one, `stopped` why it went no further, `next_offset` what may come next (-1: there was no good one)."""

    end: int
    stopped: WalkEnd
    next_offset: int
    leader_epoch: int  # of the last good one; -1: there was none
    batches: int


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


class WindowEnd(IntEnum):
    """Why a walk of compaction over a window of batches stopped: at a batch's first byte, always."""

    END = 0  # the window is used up, or the batch goes on behind it
    OTHER = 1  # the batch is packed, transactional or a control batch: not for these functions
    FULL = 2  # the map has no room for another key
    ROOM = 3  # the output has no room for what the batch may become
    DAMAGE = 4  # the header cannot be, or the CRC is not that of the bytes
    MALFORMED = 5  # the CRC is right, and the records are not what the format says


class Mapped(NamedTuple):
    """What went into an offset map. `last_offset`: everything up to it has been taken in; -1: nothing."""

    position: int
    stopped: WindowEnd
    last_offset: int
    records: int


class Thinned(NamedTuple):
    """The records of one batch that stay. `max_timestamp` is theirs."""

    data: bytes
    kept: int
    tombstones: int  # of those that stay
    max_timestamp: int


class IndexState(NamedTuple):
    """What an index writer carries from batch to batch: bytes since the last entry, the largest timestamp so far and the
    last offset of the batch that first had it."""

    bytes_since_entry: int = 0
    max_timestamp: int = -1
    max_timestamp_offset: int = -1


class ThinnedWindow(NamedTuple):
    """What was written of a window's batches. `entries` are the index entries that are due, four numbers each: position
    in the output and last offset of the batch, largest timestamp and its offset up to and with that batch."""

    position: int
    stopped: WindowEnd
    written: int
    first_offset: int  # the base offset of the first batch that was written; -1: none was
    batches: int  # written
    records: int  # read
    kept: int
    entries: array[int]
    state: IndexState


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
    OFFSET = 13


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
    Fault.OFFSET: "its offset is none of the batch's",
}


class MalformedRecord(ValueError):
    """The records section of a batch is not what the format says. `index` counts records from 0."""

    def __init__(self, index: int, fault: int) -> None:
        self.index = index
        self.fault = Fault(fault)
        super().__init__(f"record {index}: {_FAULT_TEXTS[self.fault]}")

    def __reduce__(self) -> tuple[type[MalformedRecord], tuple[int, int]]:
        return MalformedRecord, (self.index, int(self.fault))
