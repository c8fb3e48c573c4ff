# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The kernels, compiled. `reference.py` says what each function does; one suite of tests holds both to it.

Invariant: no pointer is followed before its position was compared with the end of the buffer, and each byte is read once, so
that a buffer which another thread writes to meanwhile gives a wrong answer at worst. The GIL is let go for large buffers only:
to get it back can take a thread switch, which is longer than a small loop. One long file, because it is one extension whose
small functions the C compiler shall see together.
"""

from cpython.array cimport array, clone
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.limits cimport INT_MAX, INT_MIN, LLONG_MAX, LLONG_MIN
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from array import array as new_array

from riverlog.kernels.results import Batches, MalformedRecord, Spans, TimestampedDelta, WalkEnd

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

cdef enum:
    WALK_END = 0
    WALK_HEADER_CUT = 1
    WALK_BATCH_CUT = 2
    WALK_LENGTH = 3
    WALK_MAGIC = 4

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
