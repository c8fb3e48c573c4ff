# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The kernels, compiled. `reference.py` says what each function does; one suite of tests holds both to it.

Invariant: no pointer is followed before its position was compared with the end of the buffer, and each byte is read once, so
that a buffer which another thread writes to meanwhile gives a wrong answer at worst. The GIL is let go for large buffers only:
to get it back can take a thread switch, which is longer than a small loop. One long file, because it is one extension whose
small functions the C compiler shall see together.
"""

from cpython.array cimport array, clone
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.limits cimport INT_MAX, INT_MIN, LLONG_MAX, LLONG_MIN
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memmove, memset

from array import array as new_array

from riverlog.kernels.results import (
    Batches,
    Checked,
    IndexState,
    MalformedRecord,
    Mapped,
    Spans,
    Thinned,
    ThinnedWindow,
    TimestampedDelta,
    WalkEnd,
    WindowEnd,
)

cdef enum:
    FAULT_NONE = 0
    FAULT_COUNT = 1
    FAULT_NUMBER_CUT = 2
    FAULT_NUMBER_LONG = 3
    FAULT_LENGTH = 4
    FAULT_KEY = 5
    FAULT_VALUE = 6
    FAULT_HEADER_COUNT = 7
    FAULT_HEADER_KEY = 8
    FAULT_HEADER_VALUE = 9
    FAULT_LEFT_OVER = 10
    FAULT_TIMESTAMP = 11
    FAULT_TRAILING = 12
    FAULT_OFFSET = 13

cdef enum:
    WALK_END = 0
    WALK_HEADER_CUT = 1
    WALK_BATCH_CUT = 2
    WALK_LENGTH = 3
    WALK_MAGIC = 4
    WALK_HEADER = 5
    WALK_CRC = 6

cdef enum:
    HEADER_BYTES = 61
    OVERHEAD_BYTES = 12
    MAGIC = 2
    RECORD_BYTES_MIN = 7
    BATCH_COLUMNS = 13
    SPAN_COLUMNS = 9
    NOGIL_BYTES_MIN = 65536

cdef array COLUMN = new_array("q")


# Numbers

cdef inline int read_varint(const uint8_t* data, Py_ssize_t* position, Py_ssize_t end, int64_t* value) noexcept nogil:
    """A signed 32-bit number; gives a fault. Reads nothing at `end` or behind it."""
    cdef Py_ssize_t at = position[0]
    cdef uint32_t gathered = 0
    cdef uint32_t byte
    cdef int shift = 0
    while shift <= 28:
        if at >= end:
            return FAULT_NUMBER_CUT
        byte = data[at]
        at += 1
        if byte < 0x80:
            if shift == 28 and byte > 0x0F:
                return FAULT_NUMBER_LONG
            gathered |= byte << shift
            value[0] = <int32_t> ((gathered >> 1) ^ (~(gathered & 1) + 1))
            position[0] = at
            return FAULT_NONE
        gathered |= (byte & 0x7F) << shift
        shift += 7
    return FAULT_NUMBER_LONG


cdef inline int read_varlong(const uint8_t* data, Py_ssize_t* position, Py_ssize_t end, int64_t* value) noexcept nogil:
    """As `read_varint`, of 64 bits."""
    cdef Py_ssize_t at = position[0]
    cdef uint64_t gathered = 0
    cdef uint64_t byte
    cdef int shift = 0
    while shift <= 63:
        if at >= end:
            return FAULT_NUMBER_CUT
        byte = data[at]
        at += 1
        if byte < 0x80:
            if shift == 63 and byte > 1:
                return FAULT_NUMBER_LONG
            gathered |= byte << shift
            value[0] = <int64_t> ((gathered >> 1) ^ (~(gathered & 1) + 1))
            position[0] = at
            return FAULT_NONE
        gathered |= (byte & 0x7F) << shift
        shift += 7
    return FAULT_NUMBER_LONG


cdef inline uint64_t zigzag(int64_t value) noexcept nogil:
    return (<uint64_t> value << 1) ^ (~<uint64_t> 0 if value < 0 else 0)


cdef inline Py_ssize_t number_bytes(int64_t value) noexcept nogil:
    """How many bytes the number takes, 1 to 10."""
    cdef uint64_t left = zigzag(value)
    cdef Py_ssize_t count = 1
    while left > 0x7F:
        left >>= 7
        count += 1
    return count


cdef inline Py_ssize_t write_number(uint8_t* out, Py_ssize_t position, int64_t value) noexcept nogil:
    """The caller has made sure of `number_bytes(value)` bytes at `position`; gives the position behind them."""
    cdef uint64_t left = zigzag(value)
    while left > 0x7F:
        out[position] = <uint8_t> (0x80 | (left & 0x7F))
        position += 1
        left >>= 7
    out[position] = <uint8_t> left
    return position + 1


cdef inline uint64_t read_big_endian(const uint8_t* data, int size) noexcept nogil:
    cdef uint64_t value = 0
    cdef int index
    for index in range(size):
        value = (value << 8) | data[index]
    return value


# Batches

cdef int walk(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t* position, int64_t* rows, Py_ssize_t rows_max, Py_ssize_t* count
) noexcept nogil:
    """Writes at most `rows_max` rows of 13 columns; gives why it stopped, WALK_END with bytes left: there was no more room."""
    cdef Py_ssize_t at = position[0]
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t left
    cdef int64_t length
    cdef const uint8_t* header
    cdef int64_t* row
    cdef int stopped = WALK_END
    while found < rows_max:
        left = size - at
        if left < HEADER_BYTES:
            stopped = WALK_HEADER_CUT if left > 0 else WALK_END
            break
        header = data + at
        length = <int32_t> read_big_endian(header + 8, 4)
        if length < HEADER_BYTES - OVERHEAD_BYTES:
            stopped = WALK_LENGTH
            break
        if header[16] != MAGIC:
            stopped = WALK_MAGIC
            break
        if length > left - OVERHEAD_BYTES:
            stopped = WALK_BATCH_CUT
            break
        row = rows + found * BATCH_COLUMNS
        row[0] = at
        row[1] = length + OVERHEAD_BYTES
        row[2] = <int64_t> read_big_endian(header, 8)
        row[3] = <int32_t> read_big_endian(header + 23, 4)
        row[4] = <int32_t> read_big_endian(header + 12, 4)
        row[5] = <int64_t> read_big_endian(header + 17, 4)
        row[6] = <int16_t> read_big_endian(header + 21, 2)
        row[7] = <int64_t> read_big_endian(header + 27, 8)
        row[8] = <int64_t> read_big_endian(header + 35, 8)
        row[9] = <int64_t> read_big_endian(header + 43, 8)
        row[10] = <int16_t> read_big_endian(header + 51, 2)
        row[11] = <int32_t> read_big_endian(header + 53, 4)
        row[12] = <int32_t> read_big_endian(header + 57, 4)
        found += 1
        at += <Py_ssize_t> length + OVERHEAD_BYTES
    position[0] = at
    count[0] = found
    return stopped


cdef enum:
    WALK_ROWS = 64

def walk_batches(buffer, Py_ssize_t position=0):
    cdef Py_buffer view
    cdef Py_ssize_t at = position
    cdef Py_ssize_t found = 0
    cdef Py_ssize_t row
    cdef int column
    cdef int stopped = WALK_END
    cdef int64_t rows[WALK_ROWS * BATCH_COLUMNS]
    cdef list columns = [new_array("q") for _ in range(BATCH_COLUMNS)]
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if position < 0 or position > view.len:
            raise ValueError(f"position {position} lies outside a buffer of {view.len} bytes")
        while True:
            stopped = walk(<const uint8_t*> view.buf, view.len, &at, rows, WALK_ROWS, &found)
            for column in range(BATCH_COLUMNS):
                append_column(columns[column], rows + column, found, BATCH_COLUMNS)
            if found < WALK_ROWS:
                break
    finally:
        PyBuffer_Release(&view)
    return Batches(at, WalkEnd(stopped), *columns)


cdef int append_column(array column, const int64_t* values, Py_ssize_t count, Py_ssize_t stride) except -1:
    """Appends every `stride`-th of the values, `count` of them."""
    cdef array more = clone(COLUMN, count, False)
    cdef Py_ssize_t index
    for index in range(count):
        more.data.as_longlongs[index] = values[index * stride]
    column.extend(more)
    return 0


# Records

cdef inline int read_part(
    const uint8_t* data, Py_ssize_t* position, Py_ssize_t end, int64_t* start, int64_t* length, int outside
) noexcept nogil:
    """A length and that many bytes, which are skipped; a negative length is null. Gives `outside` where they pass `end`."""
    cdef int64_t number = 0
    cdef int fault = read_varint(data, position, end, &number)
    if fault != FAULT_NONE:
        return fault
    if number > end - position[0]:
        return outside
    start[0] = position[0]
    if number < 0:
        length[0] = -1
    else:
        length[0] = number
        position[0] += <Py_ssize_t> number
    return FAULT_NONE


cdef inline int parse_record(
    const uint8_t* data, Py_ssize_t* position, Py_ssize_t size, int64_t** columns, Py_ssize_t index
) noexcept nogil:
    """The record at `position`, into row `index`."""
    cdef int64_t number = 0
    cdef int64_t headers = 0
    cdef Py_ssize_t end
    cdef int fault = read_varint(data, position, size, &number)
    if fault != FAULT_NONE:
        return fault
    if number < 0 or number > size - position[0]:
        return FAULT_LENGTH
    end = position[0] + <Py_ssize_t> number
    position[0] += 1
    fault = read_varlong(data, position, end, columns[1] + index)
    if fault == FAULT_NONE:
        fault = read_varint(data, position, end, columns[0] + index)
    if fault == FAULT_NONE:
        fault = read_part(data, position, end, columns[2] + index, columns[3] + index, FAULT_KEY)
    if fault == FAULT_NONE:
        fault = read_part(data, position, end, columns[4] + index, columns[5] + index, FAULT_VALUE)
    if fault == FAULT_NONE:
        fault = read_varint(data, position, end, &headers)
    if fault != FAULT_NONE:
        return fault
    if headers < 0 or headers > (end - position[0]) // 2:
        return FAULT_HEADER_COUNT
    columns[6][index] = position[0]
    columns[7][index] = headers
    columns[8][index] = end
    if headers > 0:
        fault = skip_headers(data, position, end, headers)
        if fault != FAULT_NONE:
            return fault
    return FAULT_NONE if position[0] == end else FAULT_LEFT_OVER


cdef int skip_headers(const uint8_t* data, Py_ssize_t* position, Py_ssize_t end, int64_t count) noexcept nogil:
    cdef int64_t start = 0
    cdef int64_t length = 0
    cdef int fault
    while count > 0:
        fault = read_part(data, position, end, &start, &length, FAULT_HEADER_KEY)
        if fault != FAULT_NONE:
            return fault
        if length < 0:
            return FAULT_HEADER_KEY
        fault = read_part(data, position, end, &start, &length, FAULT_HEADER_VALUE)
        if fault != FAULT_NONE:
            return fault
        count -= 1
    return FAULT_NONE


cdef int parse_spans(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t count, Py_ssize_t rows_max, int64_t** columns, Py_ssize_t* index_found
) noexcept nogil:
    """Fills `columns`, which have room for `rows_max` records; gives a fault and the index of the record that has it."""
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t index = 0
    cdef int fault = FAULT_NONE
    while index < count and fault == FAULT_NONE:
        if index >= rows_max:  # cannot be: so many records of 7 bytes are more than the buffer
            fault = FAULT_LENGTH
        else:
            fault = parse_record(data, &position, size, columns, index)
        index += fault == FAULT_NONE
    if fault == FAULT_NONE and position != size:
        fault = FAULT_TRAILING
    index_found[0] = index
    return fault


def record_spans(records, Py_ssize_t count):
    cdef Py_buffer view
    cdef int64_t* columns[SPAN_COLUMNS]
    cdef list arrays
    cdef array column
    cdef Py_ssize_t rows_max
    cdef Py_ssize_t index = 0
    cdef int position
    cdef int fault
    if count < 0:
        raise MalformedRecord(0, FAULT_COUNT)
    PyObject_GetBuffer(records, &view, PyBUF_SIMPLE)
    try:
        # `count` is whatever the wire said; one row more than can be there, for what is found of a bad record
        rows_max = min(count, view.len // RECORD_BYTES_MIN + 1)
        arrays = []
        for position in range(SPAN_COLUMNS):
            column = clone(COLUMN, rows_max, False)
            columns[position] = <int64_t*> column.data.as_longlongs
            arrays.append(column)
        if view.len >= NOGIL_BYTES_MIN:
            with nogil:
                fault = parse_spans(<const uint8_t*> view.buf, view.len, count, rows_max, columns, &index)
        else:
            fault = parse_spans(<const uint8_t*> view.buf, view.len, count, rows_max, columns, &index)
    finally:
        PyBuffer_Release(&view)
    if fault != FAULT_NONE:
        raise MalformedRecord(index, fault)
    return Spans(*arrays)


cdef struct Start:
    int64_t timestamp
    int64_t offset_delta
    Py_ssize_t after
    Py_ssize_t end


cdef inline int read_start(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t position, int64_t base_timestamp, Start* start
) noexcept nogil:
    """Timestamp and offset delta of the record at `position`, the position behind both, and the record's end."""
    cdef int64_t number = 0
    cdef int fault = read_varint(data, &position, size, &number)
    if fault != FAULT_NONE:
        return fault
    if number < 0 or number > size - position:
        return FAULT_LENGTH
    start.end = position + <Py_ssize_t> number
    position += 1
    fault = read_varlong(data, &position, start.end, &number)
    if fault != FAULT_NONE:
        return fault
    fault = read_varint(data, &position, start.end, &start.offset_delta)
    if fault != FAULT_NONE:
        return fault
    if (number > 0 and base_timestamp > LLONG_MAX - number) or (number < 0 and base_timestamp < LLONG_MIN - number):
        return FAULT_TIMESTAMP
    start.timestamp = base_timestamp + number
    start.after = position
    return FAULT_NONE


cdef enum:
    SEEK_TIMESTAMP = 0
    SEEK_MAX = 1
    SEEK_NULL_KEY = 2

cdef struct Found:
    Py_ssize_t index  # -1: nothing
    int64_t timestamp
    int64_t offset_delta


cdef int seek(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t count, int64_t base_timestamp, int64_t timestamp, int what,
    Found* found, Py_ssize_t* index_reached
) noexcept nogil:
    """One pass over the starts of the records, for what is sought."""
    cdef Start start
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t index = 0
    cdef int64_t number = 0
    cdef int fault = FAULT_NONE
    found.index = -1
    found.timestamp = 0
    found.offset_delta = 0
    while index < count:
        fault = read_start(data, size, position, base_timestamp, &start)
        if fault != FAULT_NONE:
            break
        if what == SEEK_NULL_KEY:
            fault = read_varint(data, &start.after, start.end, &number)
            if fault != FAULT_NONE:
                break
            if number < 0:
                found.index = index
                break
            if number > start.end - start.after:
                fault = FAULT_KEY
                break
        elif what == SEEK_MAX:
            if found.index < 0 or start.timestamp > found.timestamp:
                found.index = index
                found.timestamp = start.timestamp
                found.offset_delta = start.offset_delta
        elif start.timestamp >= timestamp:
            found.index = index
            found.timestamp = start.timestamp
            found.offset_delta = start.offset_delta
            break
        position = start.end
        index += 1
    index_reached[0] = index
    return fault


cdef int sought(records, Py_ssize_t count, int64_t base_timestamp, int64_t timestamp, int what, Found* found) except -1:
    """Runs `seek` over a buffer. Raises MalformedRecord."""
    cdef Py_buffer view
    cdef Py_ssize_t index = 0
    cdef int fault
    if count < 0:
        raise MalformedRecord(0, FAULT_COUNT)
    PyObject_GetBuffer(records, &view, PyBUF_SIMPLE)
    try:
        if view.len >= NOGIL_BYTES_MIN:
            with nogil:
                fault = seek(
                    <const uint8_t*> view.buf, view.len, count, base_timestamp, timestamp, what, found, &index
                )
        else:
            fault = seek(<const uint8_t*> view.buf, view.len, count, base_timestamp, timestamp, what, found, &index)
    finally:
        PyBuffer_Release(&view)
    if fault != FAULT_NONE:
        raise MalformedRecord(index, fault)
    return 0


def first_at_or_after(records, Py_ssize_t count, int64_t base_timestamp, int64_t timestamp):
    cdef Found found
    sought(records, count, base_timestamp, timestamp, SEEK_TIMESTAMP, &found)
    return None if found.index < 0 else TimestampedDelta(found.offset_delta, found.timestamp)


def max_timestamp(records, Py_ssize_t count, int64_t base_timestamp):
    cdef Found found
    sought(records, count, base_timestamp, 0, SEEK_MAX, &found)
    return None if found.index < 0 else TimestampedDelta(found.offset_delta, found.timestamp)


def first_null_key(records, Py_ssize_t count):
    cdef Found found
    sought(records, count, 0, 0, SEEK_NULL_KEY, &found)
    return found.index


# Runs of numbers

def read_varlongs(buffer, Py_ssize_t count, Py_ssize_t position=0):
    cdef Py_buffer view
    cdef Py_ssize_t at = position
    cdef Py_ssize_t index = 0
    cdef array values
    cdef int64_t number = 0
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if count < 0 or position < 0 or position > view.len:
            raise ValueError(f"cannot read {count} numbers at position {position} of {view.len} bytes")
        values = clone(COLUMN, min(count, view.len - position), False)  # a number has at least one byte
        while index < count:
            if read_varlong(<const uint8_t*> view.buf, &at, view.len, &number) != FAULT_NONE:
                raise ValueError(f"number {index} of {count} is cut off or has more than 64 bits")
            values.data.as_longlongs[index] = number
            index += 1
    finally:
        PyBuffer_Release(&view)
    return values, at


def write_varlongs(values):
    cdef Output output = Output()
    cdef int64_t number
    for value in values:
        number = value
        output.reserve(10)
        output.size = write_number(output.data, output.size, number)
    return output.finish()


cdef class Output:
    """Bytes that grow. Whoever writes has reserved before."""

    cdef uint8_t* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    def __cinit__(self):
        self.data = NULL
        self.size = 0
        self.capacity = 0

    def __dealloc__(self):
        free(self.data)

    cdef int reserve(self, Py_ssize_t count) except -1:
        cdef Py_ssize_t wanted
        cdef void* moved
        if count <= self.capacity - self.size:
            return 0
        if count > <Py_ssize_t> 0x7FFFFFFFFFFF - self.size:
            raise MemoryError()
        wanted = max(self.size + count, self.capacity * 2, 1024)
        moved = realloc(self.data, <size_t> wanted)
        if moved == NULL:
            raise MemoryError()
        self.data = <uint8_t*> moved
        self.capacity = wanted
        return 0

    cdef int put(self, bytes data) except -1:
        """A length and the bytes, or the length -1 for None. Room was reserved by who knows how much."""
        cdef Py_ssize_t size
        if data is None:
            self.data[self.size] = 1
            self.size += 1
            return 0
        size = PyBytes_GET_SIZE(data)
        self.size = write_number(self.data, self.size, size)
        memcpy(self.data + self.size, PyBytes_AS_STRING(data), <size_t> size)
        self.size += size
        return 0

    cdef bytes finish(self):
        return PyBytes_FromStringAndSize(<char*> self.data, self.size) if self.size else b""


cdef inline bytes bytes_of(data):
    """As it is where it is bytes, else a copy: what was measured cannot change before it is written."""
    if type(data) is bytes:
        return <bytes> data
    return memoryview(data).tobytes()


cdef inline Py_ssize_t put_bytes(bytes data) noexcept:
    """How many bytes `Output.put` writes for it."""
    if data is None:
        return 1
    return number_bytes(PyBytes_GET_SIZE(data)) + PyBytes_GET_SIZE(data)


def encode_records(records, offset_deltas=None):
    cdef Output output = Output()
    cdef Py_ssize_t index = 0
    if offset_deltas is not None and len(offset_deltas) != len(records):
        raise ValueError(f"{len(offset_deltas)} offset deltas for {len(records)} records")
    for timestamp_delta, key, value, headers in records:
        encode_record(
            output, index, timestamp_delta, index if offset_deltas is None else offset_deltas[index], key, value, headers
        )
        index += 1
    return output.finish()


cdef int encode_record(
    Output output, Py_ssize_t index, int64_t timestamp_delta, int64_t offset_delta, key, value, headers
) except -1:
    cdef bytes key_bytes = None if key is None else bytes_of(key)
    cdef bytes value_bytes = None if value is None else bytes_of(value)
    cdef list header_bytes = None
    cdef Py_ssize_t header_count = len(headers)
    cdef Py_ssize_t size
    cdef bytes part
    if offset_delta < INT_MIN or offset_delta > INT_MAX:
        raise OverflowError(f"record {index}: timestamp delta {timestamp_delta}, offset delta {offset_delta}")
    size = 1 + number_bytes(timestamp_delta) + number_bytes(offset_delta) + put_bytes(key_bytes) + put_bytes(value_bytes)
    if header_count:
        header_bytes = []
        for header_key, header_value in headers:
            header_bytes.append(bytes_of(header_key))
            header_bytes.append(None if header_value is None else bytes_of(header_value))
        header_count = len(header_bytes) // 2
        for part in header_bytes:
            size += put_bytes(part)
    size += number_bytes(header_count)
    if size > INT_MAX:
        raise OverflowError(f"record {index} has {size} bytes")
    output.reserve(size + 5)
    output.size = write_number(output.data, output.size, size)
    output.data[output.size] = 0
    output.size = write_number(output.data, output.size + 1, timestamp_delta)
    output.size = write_number(output.data, output.size, offset_delta)
    output.put(key_bytes)
    output.put(value_bytes)
    output.size = write_number(output.data, output.size, header_count)
    if header_count:
        for part in header_bytes:
            output.put(part)
    return 0


# Keys

cdef int32_t hash_key(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    cdef uint32_t multiplier = 0x5BD1E995
    cdef uint32_t hashed = <uint32_t> 0x9747B28C ^ <uint32_t> size
    cdef uint32_t word
    cdef Py_ssize_t position = 0
    while size - position >= 4:
        word = (
            <uint32_t> data[position]
            | <uint32_t> data[position + 1] << 8
            | <uint32_t> data[position + 2] << 16
            | <uint32_t> data[position + 3] << 24
        )
        word *= multiplier
        word ^= word >> 24
        word *= multiplier
        hashed = hashed * multiplier ^ word
        position += 4
    if position < size:
        word = data[position]
        if position + 1 < size:
            word |= <uint32_t> data[position + 1] << 8
        if position + 2 < size:
            word |= <uint32_t> data[position + 2] << 16
        hashed = (hashed ^ word) * multiplier
    hashed = (hashed ^ hashed >> 13) * multiplier
    return <int32_t> (hashed ^ hashed >> 15)


def murmur2(key):
    cdef Py_buffer view
    cdef int32_t hashed
    PyObject_GetBuffer(key, &view, PyBUF_SIMPLE)
    hashed = hash_key(<const uint8_t*> view.buf, view.len)
    PyBuffer_Release(&view)
    return hashed


def partition_for_key(key, Py_ssize_t partitions):
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return (murmur2(key) & 0x7FFFFFFF) % partitions


# Compaction: CRC-32C

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static uint32_t crc_tables[8][256];

    static void make_crc_tables(void) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = (uint32_t) byte;
            for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
            crc_tables[0][byte] = crc;
        }
        for (int byte = 0; byte < 256; byte++)
            for (int table = 1; table < 8; table++)
                crc_tables[table][byte] = crc_tables[table - 1][byte] >> 8 ^ crc_tables[0][crc_tables[table - 1][byte] & 0xFF];
    }

    static uint32_t crc_by_table(const uint8_t *data, size_t size) {
        uint32_t crc = 0xFFFFFFFFu;
        while (size >= 8) {
            uint32_t low = crc ^ ((uint32_t) data[0] | (uint32_t) data[1] << 8 | (uint32_t) data[2] << 16 | (uint32_t) data[3] << 24);
            crc = crc_tables[7][low & 0xFF] ^ crc_tables[6][low >> 8 & 0xFF] ^ crc_tables[5][low >> 16 & 0xFF]
                ^ crc_tables[4][low >> 24] ^ crc_tables[3][data[4]] ^ crc_tables[2][data[5]]
                ^ crc_tables[1][data[6]] ^ crc_tables[0][data[7]];
            data += 8;
            size -= 8;
        }
        while (size--) crc = crc >> 8 ^ crc_tables[0][(crc ^ *data++) & 0xFF];
        return ~crc;
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    __attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(const uint8_t *data, size_t size) {
        uint64_t crc = 0xFFFFFFFFu;
        while (size >= 8) {
            uint64_t word;
            memcpy(&word, data, 8);
            crc = __builtin_ia32_crc32di(crc, word);
            data += 8;
            size -= 8;
        }
        while (size--) crc = __builtin_ia32_crc32qi((uint32_t) crc, *data++);
        return ~(uint32_t) crc;
    }
    static int has_crc_instruction(void) { __builtin_cpu_init(); return __builtin_cpu_supports("sse4.2"); }
    #else
    static uint32_t crc_by_instruction(const uint8_t *data, size_t size) { return crc_by_table(data, size); }
    static int has_crc_instruction(void) { return 0; }
    #endif
    """
    void make_crc_tables()
    uint32_t crc_by_table(const uint8_t* data, size_t size) nogil
    uint32_t crc_by_instruction(const uint8_t* data, size_t size) nogil
    int has_crc_instruction()

make_crc_tables()
cdef bint CRC_INSTRUCTION = has_crc_instruction()


cdef inline uint32_t crc32c(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    if CRC_INSTRUCTION:
        return crc_by_instruction(data, <size_t> size)
    return crc_by_table(data, <size_t> size)


def checksum(data, bint by_table=False):
    cdef Py_buffer view
    cdef uint32_t crc
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if by_table:
        crc = crc_by_table(<const uint8_t*> view.buf, <size_t> view.len)
    else:
        crc = crc32c(<const uint8_t*> view.buf, view.len)
    PyBuffer_Release(&view)
    return crc


# Checking: see `checking.py`

cdef int check(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t* position, int64_t* next_offset, int32_t* leader_epoch, Py_ssize_t* batches,
    bint dense
) noexcept nogil:
    """Moves its four numbers over the good batches; gives why it stopped."""
    cdef Py_ssize_t left
    cdef int64_t length
    cdef int64_t base_offset
    cdef int32_t delta
    cdef int32_t epoch
    cdef int32_t count
    cdef const uint8_t* header
    while True:
        left = size - position[0]
        if left < HEADER_BYTES:
            return WALK_HEADER_CUT if left > 0 else WALK_END
        header = data + position[0]
        length = <int32_t> read_big_endian(header + 8, 4)
        if length < HEADER_BYTES - OVERHEAD_BYTES:
            return WALK_LENGTH
        if header[16] != MAGIC:
            return WALK_MAGIC
        base_offset = <int64_t> read_big_endian(header, 8)
        epoch = <int32_t> read_big_endian(header + 12, 4)
        delta = <int32_t> read_big_endian(header + 23, 4)
        count = <int32_t> read_big_endian(header + 57, 4)
        if base_offset < next_offset[0] or base_offset < 0 or delta < 0 or epoch < leader_epoch[0]:
            return WALK_HEADER
        if count < 0 or count > <int64_t> delta + 1 or (dense and next_offset[0] >= 0 and base_offset != next_offset[0]):
            return WALK_HEADER
        if length > left - OVERHEAD_BYTES:
            return WALK_BATCH_CUT
        if crc32c(header + 21, <Py_ssize_t> length - 9) != <uint32_t> read_big_endian(header + 17, 4):
            return WALK_CRC
        position[0] += <Py_ssize_t> length + OVERHEAD_BYTES
        next_offset[0] = base_offset + delta + 1 if base_offset < LLONG_MAX - delta else LLONG_MAX
        leader_epoch[0] = epoch
        batches[0] += 1


def check_batches(buffer, Py_ssize_t position=0, int64_t next_offset=-1, int32_t leader_epoch=-1, bint dense=False):
    cdef Py_buffer view
    cdef Py_ssize_t at = position
    cdef Py_ssize_t batches = 0
    cdef int stopped = WALK_END
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if position < 0 or position > view.len:
            raise ValueError(f"position {position} lies outside a buffer of {view.len} bytes")
        if view.len - position < NOGIL_BYTES_MIN:
            stopped = check(<const uint8_t*> view.buf, view.len, &at, &next_offset, &leader_epoch, &batches, dense)
        else:
            with nogil:
                stopped = check(<const uint8_t*> view.buf, view.len, &at, &next_offset, &leader_epoch, &batches, dense)
    finally:
        PyBuffer_Release(&view)
    return Checked(at, WalkEnd(stopped), next_offset, leader_epoch, batches)


# Compaction: the map of keys

cdef struct Hashed:
    uint64_t low
    uint64_t high


cdef inline uint64_t rotated(uint64_t word, int count) noexcept nogil:
    return word << count | word >> (64 - count)


cdef inline void rounds(uint64_t* a, uint64_t* b, uint64_t* c, uint64_t* d, int count) noexcept nogil:
    while count > 0:
        a[0] += b[0]
        b[0] = rotated(b[0], 13) ^ a[0]
        a[0] = rotated(a[0], 32)
        c[0] += d[0]
        d[0] = rotated(d[0], 16) ^ c[0]
        a[0] += d[0]
        d[0] = rotated(d[0], 21) ^ a[0]
        c[0] += b[0]
        b[0] = rotated(b[0], 17) ^ c[0]
        c[0] = rotated(c[0], 32)
        count -= 1


cdef inline uint64_t read_little_endian(const uint8_t* data) noexcept nogil:
    return (
        <uint64_t> data[0]
        | <uint64_t> data[1] << 8
        | <uint64_t> data[2] << 16
        | <uint64_t> data[3] << 24
        | <uint64_t> data[4] << 32
        | <uint64_t> data[5] << 40
        | <uint64_t> data[6] << 48
        | <uint64_t> data[7] << 56
    )


cdef inline Hashed siphash(uint64_t k0, uint64_t k1, const uint8_t* data, Py_ssize_t size) noexcept nogil:
    cdef uint64_t a = k0 ^ <uint64_t> 0x736F6D6570736575
    cdef uint64_t b = k1 ^ <uint64_t> 0x646F72616E646F6D ^ 0xEE
    cdef uint64_t c = k0 ^ <uint64_t> 0x6C7967656E657261
    cdef uint64_t d = k1 ^ <uint64_t> 0x7465646279746573
    cdef uint64_t word
    cdef Py_ssize_t position = 0
    cdef int index
    cdef Hashed hashed
    while size - position >= 8:
        word = read_little_endian(data + position)
        d ^= word
        rounds(&a, &b, &c, &d, 2)
        a ^= word
        position += 8
    word = <uint64_t> (size & 0xFF) << 56
    for index in range(<int> (size - position)):
        word |= <uint64_t> data[position + index] << (8 * index)
    d ^= word
    rounds(&a, &b, &c, &d, 2)
    a ^= word
    c ^= 0xEE
    rounds(&a, &b, &c, &d, 4)
    hashed.low = a ^ b ^ c ^ d
    b ^= 0xDD
    rounds(&a, &b, &c, &d, 4)
    hashed.high = a ^ b ^ c ^ d
    return hashed


def keyed_hash(key, data):
    cdef Py_buffer view
    cdef bytes secret = bytes_of(key)
    cdef const uint8_t* words = <const uint8_t*> PyBytes_AS_STRING(secret)
    cdef Hashed hashed
    if PyBytes_GET_SIZE(secret) != 16:
        raise ValueError("the hash's key has 16 bytes")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    hashed = siphash(read_little_endian(words), read_little_endian(words + 8), <const uint8_t*> view.buf, view.len)
    PyBuffer_Release(&view)
    return hashed.low, hashed.high


cdef struct Slot:
    uint64_t low
    uint64_t high
    int64_t place  # the offset and one; 0: nobody is here

cdef enum:
    SLOT_BYTES = 24
    SLOTS_FIRST = 1024


cdef class OffsetMap:
    """One thread at a time: a map has one user. It grows by doubling, so that few keys are found in the processor's caches."""

    cdef Slot* slots
    cdef Py_ssize_t slot_count
    cdef Py_ssize_t slots_max
    cdef Py_ssize_t size
    cdef readonly Py_ssize_t capacity
    cdef uint64_t k0
    cdef uint64_t k1

    def __cinit__(self, Py_ssize_t slots, key):
        cdef bytes secret = bytes_of(key)
        cdef const uint8_t* words = <const uint8_t*> PyBytes_AS_STRING(secret)
        self.slots = NULL
        if slots < 2:
            raise ValueError(f"a map has at least 2 slots, not {slots}")
        if PyBytes_GET_SIZE(secret) != 16:
            raise ValueError(f"the hash's key has 16 bytes, not {len(secret)}")
        if slots > <Py_ssize_t> 0x7FFFFFFFFFFF // SLOT_BYTES:
            raise MemoryError()
        self.k0 = read_little_endian(words)
        self.k1 = read_little_endian(words + 8)
        self.slots_max = slots
        self.slot_count = min(slots, SLOTS_FIRST)
        self.capacity = slots * 3 // 4
        self.size = 0
        self.slots = <Slot*> calloc(<size_t> self.slot_count, SLOT_BYTES)
        if self.slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return self.size

    cdef inline Slot* find(self, Hashed hashed) noexcept nogil:
        """The slot of the key, else the free one where it would go: a quarter of the slots is always free."""
        cdef Py_ssize_t at = <Py_ssize_t> (hashed.low % <uint64_t> self.slot_count)
        cdef Slot* slot = self.slots + at
        while slot.place != 0 and (slot.low != hashed.low or slot.high != hashed.high):
            at += 1
            if at == self.slot_count:
                at = 0
            slot = self.slots + at
        return slot

    cdef inline int64_t known(self, const uint8_t* data, Py_ssize_t size) noexcept nogil:
        return self.find(siphash(self.k0, self.k1, data, size)).place - 1

    cdef inline bint note(self, const uint8_t* data, Py_ssize_t size, int64_t offset) noexcept nogil:
        cdef Hashed hashed = siphash(self.k0, self.k1, data, size)
        cdef Slot* slot = self.find(hashed)
        if slot.place == 0:
            if self.size >= self.slot_count * 3 // 4:
                if self.slot_count >= self.slots_max or not self.grow():
                    return False
                slot = self.find(hashed)
            slot.low = hashed.low
            slot.high = hashed.high
            self.size += 1
        elif slot.place > offset:
            return True
        slot.place = offset + 1
        return True

    cdef bint grow(self) noexcept nogil:
        """Twice the slots, or as many as there may be. False: there is no memory."""
        cdef Py_ssize_t before = self.slot_count
        cdef Py_ssize_t at
        cdef Slot* old = self.slots
        cdef Hashed hashed
        cdef Py_ssize_t wanted = before * 2 if before <= self.slots_max // 2 else self.slots_max
        cdef Slot* fresh = <Slot*> calloc(<size_t> wanted, SLOT_BYTES)
        if fresh == NULL:
            return False
        self.slots = fresh
        self.slot_count = wanted
        for at in range(before):
            if old[at].place != 0:
                hashed.low = old[at].low
                hashed.high = old[at].high
                self.find(hashed)[0] = old[at]
        free(old)
        return True

    def get(self, key):
        cdef Py_buffer view
        cdef int64_t offset
        PyObject_GetBuffer(key, &view, PyBUF_SIMPLE)
        offset = self.known(<const uint8_t*> view.buf, view.len)
        PyBuffer_Release(&view)
        return offset

    def put(self, key, int64_t offset):
        cdef Py_buffer view
        cdef bint noted
        if offset < 0:
            raise ValueError(f"no offset: {offset}")
        PyObject_GetBuffer(key, &view, PyBUF_SIMPLE)
        noted = self.note(<const uint8_t*> view.buf, view.len, offset)
        PyBuffer_Release(&view)
        return noted

    def clear(self):
        memset(self.slots, 0, <size_t> self.slot_count * SLOT_BYTES)
        self.size = 0


# Compaction: records

cdef struct Light:
    Py_ssize_t body
    Py_ssize_t end
    int64_t timestamp_delta
    Py_ssize_t after_timestamp
    int64_t offset_delta
    int64_t key_start
    int64_t key_length  # -1: null
    bint is_tombstone


cdef inline int read_light(const uint8_t* data, Py_ssize_t size, Py_ssize_t position, Light* light) noexcept nogil:
    cdef int64_t number = 0
    cdef Py_ssize_t end
    cdef int fault = read_varint(data, &position, size, &number)
    if fault != FAULT_NONE:
        return fault
    if number < 0 or number > size - position:
        return FAULT_LENGTH
    light.body = position
    end = position + <Py_ssize_t> number
    light.end = end
    position += 1
    fault = read_varlong(data, &position, end, &light.timestamp_delta)
    if fault != FAULT_NONE:
        return fault
    light.after_timestamp = position
    fault = read_varint(data, &position, end, &light.offset_delta)
    if fault == FAULT_NONE:
        fault = read_part(data, &position, end, &light.key_start, &light.key_length, FAULT_KEY)
    if fault == FAULT_NONE:
        fault = read_varint(data, &position, end, &number)
    if fault != FAULT_NONE:
        return fault
    if number > end - position:
        return FAULT_VALUE
    light.is_tombstone = number < 0
    return FAULT_NONE


cdef int map_section(
    OffsetMap offset_map, const uint8_t* data, Py_ssize_t size, Py_ssize_t count, int64_t last_offset_delta,
    int64_t base_offset, int64_t start_offset, Py_ssize_t* index_reached, int64_t* last_offset, bint* full
) noexcept nogil:
    cdef Light light
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t index = 0
    cdef int64_t offset
    cdef int fault = FAULT_NONE
    full[0] = False
    while index < count:
        fault = read_light(data, size, position, &light)
        if fault != FAULT_NONE:
            break
        if light.offset_delta < 0 or light.offset_delta > last_offset_delta:
            fault = FAULT_OFFSET
            break
        offset = base_offset + light.offset_delta
        if offset >= start_offset:
            if light.key_length >= 0 and not offset_map.note(
                data + light.key_start, <Py_ssize_t> light.key_length, offset
            ):
                full[0] = True
                break
            last_offset[0] = offset
        position = light.end
        index += 1
    if fault == FAULT_NONE and not full[0]:
        if position != size:
            fault = FAULT_TRAILING
        else:
            last_offset[0] = base_offset + last_offset_delta
    index_reached[0] = index
    return fault


def map_records(
    OffsetMap offset_map not None, records, Py_ssize_t count, int64_t last_offset_delta, int64_t base_offset,
    int64_t start_offset
):
    cdef Py_buffer view
    cdef Py_ssize_t index = 0
    cdef int64_t last = -1
    cdef bint full = False
    cdef int fault
    if count < 0:
        raise MalformedRecord(0, FAULT_COUNT)
    PyObject_GetBuffer(records, &view, PyBUF_SIMPLE)
    with nogil:
        fault = map_section(
            offset_map, <const uint8_t*> view.buf, view.len, count, last_offset_delta, base_offset, start_offset,
            &index, &last, &full,
        )
    PyBuffer_Release(&view)
    if fault != FAULT_NONE:
        raise MalformedRecord(index, fault)
    return Mapped(index, WindowEnd.FULL if full else WindowEnd.END, last, index)


cdef struct Kept:
    Py_ssize_t size
    Py_ssize_t count
    Py_ssize_t tombstones
    int64_t max_timestamp


cdef int thin_section(
    OffsetMap offset_map, const uint8_t* data, Py_ssize_t size, Py_ssize_t count, int64_t last_offset_delta,
    int64_t base_offset, int64_t base_timestamp, int64_t latest_offset, bint drop_tombstones, uint8_t* out, Kept* kept,
    Py_ssize_t* index_reached
) noexcept nogil:
    """`out` has room for `size` bytes: what stays is copied in runs."""
    cdef Light light
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t run = 0  # where bytes that stay and are not copied yet begin
    cdef Py_ssize_t index = 0
    cdef int64_t offset
    cdef int64_t timestamp
    cdef bint stays
    cdef int fault = FAULT_NONE
    kept.size = kept.count = kept.tombstones = 0
    kept.max_timestamp = -1
    while index < count:
        fault = read_light(data, size, position, &light)
        if fault != FAULT_NONE:
            break
        if light.offset_delta < 0 or light.offset_delta > last_offset_delta:
            fault = FAULT_OFFSET
            break
        if (light.timestamp_delta > 0 and base_timestamp > LLONG_MAX - light.timestamp_delta) or (
            light.timestamp_delta < 0 and base_timestamp < LLONG_MIN - light.timestamp_delta
        ):
            fault = FAULT_TIMESTAMP
            break
        timestamp = base_timestamp + light.timestamp_delta
        offset = base_offset + light.offset_delta
        stays = offset > latest_offset or (
            light.key_length >= 0
            and not (light.is_tombstone and drop_tombstones)
            and offset_map.known(data + light.key_start, <Py_ssize_t> light.key_length) <= offset
        )
        if stays:
            if kept.count == 0 or timestamp > kept.max_timestamp:
                kept.max_timestamp = timestamp
            kept.count += 1
            kept.tombstones += light.is_tombstone
        else:
            memcpy(out + kept.size, data + run, <size_t> (position - run))
            kept.size += position - run
            run = light.end
        position = light.end
        index += 1
    if fault == FAULT_NONE:
        memcpy(out + kept.size, data + run, <size_t> (position - run))
        kept.size += position - run
        if position != size:
            fault = FAULT_TRAILING
    index_reached[0] = index
    return fault


def thin_records(
    OffsetMap offset_map not None, records, Py_ssize_t count, int64_t last_offset_delta, int64_t base_offset,
    int64_t base_timestamp, int64_t latest_offset, bint drop_tombstones
):
    cdef Py_buffer view
    cdef Output output = Output()
    cdef Py_ssize_t index = 0
    cdef Kept kept
    cdef int fault
    if count < 0:
        raise MalformedRecord(0, FAULT_COUNT)
    PyObject_GetBuffer(records, &view, PyBUF_SIMPLE)
    try:
        output.reserve(view.len + 1)
        with nogil:
            fault = thin_section(
                offset_map, <const uint8_t*> view.buf, view.len, count, last_offset_delta, base_offset, base_timestamp,
                latest_offset, drop_tombstones, output.data, &kept, &index,
            )
    finally:
        PyBuffer_Release(&view)
    if fault != FAULT_NONE:
        raise MalformedRecord(index, fault)
    output.size = kept.size
    return Thinned(output.finish(), kept.count, kept.tombstones, kept.max_timestamp)


cdef enum:
    REBASED_BYTES_MAX = 32  # that a record grows by at most: a longer delta, and a longer length


cdef int rebase_section(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t count, int64_t base_timestamp, int64_t new_base_timestamp,
    uint8_t* out, Py_ssize_t* written, Py_ssize_t* index_reached
) noexcept nogil:
    """`out` has room for `size` and `REBASED_BYTES_MAX` bytes a record."""
    cdef Light light
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t rest
    cdef int64_t timestamp
    cdef int64_t delta
    cdef int fault = FAULT_NONE
    while index < count:
        fault = read_light(data, size, position, &light)
        if fault != FAULT_NONE:
            break
        delta = light.timestamp_delta
        if (delta > 0 and base_timestamp > LLONG_MAX - delta) or (delta < 0 and base_timestamp < LLONG_MIN - delta):
            fault = FAULT_TIMESTAMP
            break
        timestamp = base_timestamp + delta
        if (new_base_timestamp < 0 and timestamp > LLONG_MAX + new_base_timestamp) or (
            new_base_timestamp > 0 and timestamp < LLONG_MIN + new_base_timestamp
        ):
            fault = FAULT_TIMESTAMP
            break
        delta = timestamp - new_base_timestamp
        rest = light.end - light.after_timestamp
        at = write_number(out, at, 1 + number_bytes(delta) + rest)
        out[at] = data[light.body]
        at = write_number(out, at + 1, delta)
        memcpy(out + at, data + light.after_timestamp, <size_t> rest)
        at += rest
        position = light.end
        index += 1
    if fault == FAULT_NONE and position != size:
        fault = FAULT_TRAILING
    written[0] = at
    index_reached[0] = index
    return fault


def rebase_records(records, Py_ssize_t count, int64_t base_timestamp, int64_t new_base_timestamp):
    cdef Py_buffer view
    cdef Output output = Output()
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t written = 0
    cdef int fault
    if count < 0:
        raise MalformedRecord(0, FAULT_COUNT)
    PyObject_GetBuffer(records, &view, PyBUF_SIMPLE)
    try:
        # one record more than can be there, whatever `count` says
        output.reserve(view.len + REBASED_BYTES_MAX * (min(count, view.len // RECORD_BYTES_MIN) + 1))
        with nogil:
            fault = rebase_section(
                <const uint8_t*> view.buf, view.len, count, base_timestamp, new_base_timestamp, output.data, &written,
                &index,
            )
    finally:
        PyBuffer_Release(&view)
    if fault != FAULT_NONE:
        raise MalformedRecord(index, fault)
    output.size = written
    return output.finish()


# Compaction: windows of batches

cdef enum:
    WINDOW_END = 0
    WINDOW_OTHER = 1
    WINDOW_FULL = 2
    WINDOW_ROOM = 3
    WINDOW_DAMAGE = 4
    WINDOW_MALFORMED = 5
    WINDOW_GOES_ON = 6

cdef enum:
    TIMESTAMP_TYPE_BIT = 0x08
    DELETE_HORIZON_BIT = 0x40
    OTHER_BITS = 0x37
    CODEC_BITS = 0x07
    ENTRIES_MAX = 4096
    ENTRY_COLUMNS = 4

cdef struct Plain:
    int64_t base_offset
    Py_ssize_t size
    int64_t attributes
    int64_t last_offset_delta
    int64_t base_timestamp
    int64_t max_timestamp
    Py_ssize_t count


cdef inline int read_plain(const uint8_t* data, Py_ssize_t size, Py_ssize_t position, Plain* plain) noexcept nogil:
    """The batch at `position`, or why the walk stops there."""
    cdef Py_ssize_t left = size - position
    cdef const uint8_t* header = data + position
    cdef int64_t length
    if left < HEADER_BYTES:
        return WINDOW_END
    length = <int32_t> read_big_endian(header + 8, 4)
    if length < HEADER_BYTES - OVERHEAD_BYTES or header[16] != MAGIC:
        return WINDOW_DAMAGE
    if length > left - OVERHEAD_BYTES:
        return WINDOW_END
    plain.size = <Py_ssize_t> length + OVERHEAD_BYTES
    plain.base_offset = <int64_t> read_big_endian(header, 8)
    plain.attributes = <int16_t> read_big_endian(header + 21, 2)
    plain.last_offset_delta = <int32_t> read_big_endian(header + 23, 4)
    plain.base_timestamp = <int64_t> read_big_endian(header + 27, 8)
    plain.max_timestamp = <int64_t> read_big_endian(header + 35, 8)
    plain.count = <int32_t> read_big_endian(header + 57, 4)
    if plain.base_offset < 0 or plain.last_offset_delta < 0 or plain.count < 0:
        return WINDOW_DAMAGE
    if plain.count > plain.last_offset_delta + 1 or plain.base_offset > LLONG_MAX - plain.last_offset_delta - 1:
        return WINDOW_DAMAGE
    if plain.attributes & OTHER_BITS:
        return WINDOW_OTHER
    if crc32c(header + 21, plain.size - 21) != <uint32_t> read_big_endian(header + 17, 4):
        return WINDOW_DAMAGE
    return WINDOW_GOES_ON


def map_window(OffsetMap offset_map not None, window, Py_ssize_t position, int64_t start_offset):
    cdef Py_buffer view
    cdef const uint8_t* data
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t records = 0
    cdef int64_t last = -1
    cdef int64_t reached
    cdef bint full = False
    cdef int stopped = WINDOW_GOES_ON
    cdef Plain plain
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        if position < 0 or position > view.len:
            raise ValueError(f"position {position} lies outside a buffer of {view.len} bytes")
        data = <const uint8_t*> view.buf
        with nogil:
            while True:
                stopped = read_plain(data, view.len, position, &plain)
                if stopped != WINDOW_GOES_ON:
                    break
                if plain.base_offset + plain.last_offset_delta >= start_offset:
                    reached = -1
                    if map_section(
                        offset_map, data + position + HEADER_BYTES, plain.size - HEADER_BYTES, plain.count,
                        plain.last_offset_delta, plain.base_offset, start_offset, &index, &reached, &full,
                    ) != FAULT_NONE:
                        stopped = WINDOW_MALFORMED
                        break
                    records += index
                    if reached > last:
                        last = reached
                    if full:
                        stopped = WINDOW_FULL
                        break
                position += plain.size
    finally:
        PyBuffer_Release(&view)
    return Mapped(position, WindowEnd(stopped), last, records)


cdef inline void write_big_endian(uint8_t* out, uint64_t value, int size) noexcept nogil:
    cdef int index
    for index in range(size):
        out[index] = <uint8_t> (value >> (8 * (size - 1 - index)))


cdef inline bint among(const int64_t* sorted_values, Py_ssize_t count, int64_t value) noexcept nogil:
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = count
    cdef Py_ssize_t middle
    while low < high:
        middle = (low + high) // 2
        if sorted_values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < count and sorted_values[low] == value


cdef int thin_batch(
    OffsetMap offset_map, const uint8_t* batch, Plain* plain, uint8_t* out, int64_t latest_offset, bint kept_empty,
    int64_t now_ms, int64_t horizon_ms, Py_ssize_t* written, Py_ssize_t* stayed
) noexcept nogil:
    """`out` has room for twice the batch and `REBASED_BYTES_MAX` a record. Changes the times of `plain` to what was
    written."""
    cdef Kept kept
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t rebased = 0
    cdef bint has_horizon = (plain.attributes & DELETE_HORIZON_BIT) != 0
    cdef bint stamped
    cdef int64_t attributes = plain.attributes
    cdef int64_t base_timestamp = plain.base_timestamp
    cdef int fault = thin_section(
        offset_map, batch + HEADER_BYTES, plain.size - HEADER_BYTES, plain.count, plain.last_offset_delta,
        plain.base_offset, base_timestamp, latest_offset, has_horizon and now_ms >= base_timestamp,
        out + HEADER_BYTES, &kept, &index,
    )
    written[0] = stayed[0] = 0
    if fault != FAULT_NONE:
        return fault
    stamped = kept.tombstones > 0 and not has_horizon
    if kept.count == 0 and not kept_empty:
        return FAULT_NONE
    stayed[0] = kept.count
    memcpy(out, batch, HEADER_BYTES)
    if kept.count == plain.count and not stamped:
        written[0] = plain.size
        return FAULT_NONE
    if kept.count == 0:
        attributes = attributes & ~(CODEC_BITS | DELETE_HORIZON_BIT)
        base_timestamp = -1
    elif not attributes & TIMESTAMP_TYPE_BIT:
        plain.max_timestamp = kept.max_timestamp
    if stamped:
        attributes |= DELETE_HORIZON_BIT
        fault = rebase_section(
            out + HEADER_BYTES, kept.size, kept.count, base_timestamp, horizon_ms, out + HEADER_BYTES + kept.size,
            &rebased, &index,
        )
        if fault != FAULT_NONE:
            stayed[0] = 0
            return fault
        base_timestamp = horizon_ms
        memmove(out + HEADER_BYTES, out + HEADER_BYTES + kept.size, <size_t> rebased)
        kept.size = rebased
    if kept.size > INT_MAX - HEADER_BYTES:
        return FAULT_LENGTH
    write_big_endian(out + 8, <uint64_t> (HEADER_BYTES - OVERHEAD_BYTES + kept.size), 4)
    write_big_endian(out + 21, <uint64_t> attributes, 2)
    write_big_endian(out + 27, <uint64_t> base_timestamp, 8)
    write_big_endian(out + 35, <uint64_t> plain.max_timestamp, 8)
    write_big_endian(out + 57, <uint64_t> kept.count, 4)
    written[0] = HEADER_BYTES + kept.size
    write_big_endian(out + 17, crc32c(out + 21, written[0] - 21), 4)
    return FAULT_NONE


def thin_window(
    OffsetMap offset_map not None, window, Py_ssize_t position, out, int64_t latest_offset, keep_empty, int64_t now_ms,
    int64_t horizon_ms, int64_t interval_bytes, index
):
    cdef Py_buffer view
    cdef Py_buffer target
    cdef array kept_empty = keep_empty if type(keep_empty) is array else new_array("q", keep_empty)
    cdef const int64_t* kept_offsets
    cdef Py_ssize_t kept_count = len(kept_empty)
    cdef const uint8_t* data
    cdef uint8_t* room
    cdef Py_ssize_t written = 0, batches = 0, records = 0, kept = 0, size = 0, stayed = 0, entry_count = 0
    cdef int64_t first_offset = -1, since, highest, highest_offset, last_offset
    cdef int stopped = WINDOW_GOES_ON
    cdef Plain plain
    cdef array entries
    cdef int64_t* entry
    since, highest, highest_offset = index
    if kept_empty.typecode != "q":
        raise TypeError("offsets are an array of q")
    kept_offsets = <const int64_t*> kept_empty.data.as_longlongs
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &target, PyBUF_WRITABLE)
        try:
            if position < 0 or position > view.len:
                raise ValueError(f"position {position} lies outside a buffer of {view.len} bytes")
            entries = clone(COLUMN, min(ENTRIES_MAX, target.len // HEADER_BYTES + 1) * ENTRY_COLUMNS, False)
            data = <const uint8_t*> view.buf
            room = <uint8_t*> target.buf
            with nogil:
                while True:
                    stopped = read_plain(data, view.len, position, &plain)
                    if stopped != WINDOW_GOES_ON:
                        break
                    if (
                        2 * plain.size + REBASED_BYTES_MAX * plain.count > target.len - written
                        or entry_count >= ENTRIES_MAX
                    ):
                        stopped = WINDOW_ROOM
                        break
                    last_offset = plain.base_offset + plain.last_offset_delta
                    if thin_batch(
                        offset_map, data + position, &plain, room + written, latest_offset,
                        among(kept_offsets, kept_count, last_offset), now_ms, horizon_ms, &size, &stayed,
                    ) != FAULT_NONE:
                        stopped = WINDOW_MALFORMED
                        break
                    records += plain.count
                    kept += stayed
                    if size > 0:
                        if plain.max_timestamp > highest:
                            highest = plain.max_timestamp
                            highest_offset = last_offset
                        if since > interval_bytes:
                            entry = <int64_t*> entries.data.as_longlongs + entry_count * ENTRY_COLUMNS
                            entry[0] = written
                            entry[1] = last_offset
                            entry[2] = highest
                            entry[3] = highest_offset
                            entry_count += 1
                            since = 0
                        since += size
                        written += size
                        batches += 1
                        if first_offset < 0:
                            first_offset = plain.base_offset
                    position += plain.size
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&view)
    return ThinnedWindow(
        position, WindowEnd(stopped), written, first_offset, batches, records, kept,
        entries[: entry_count * ENTRY_COLUMNS], IndexState(since, highest, highest_offset),
    )
