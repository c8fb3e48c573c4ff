"""Kafka's wire format: what the generated codecs are made of, and the four functions that everybody else calls.

Promise: whatever the bytes, a decoder gives a message or raises `DecodeError`; it never reads outside the buffer and
never makes more elements than the bytes that are left can hold, or than `message_elements_max`. `records` are views into
the buffer, never copied. It is not a connection (`connection.py` cuts the stream into frames), and knows no meaning of any field.

The code of one api key is under `schema/codec/` and is imported when that key is used for the first time; the classes
under `schema/` know nothing of it. See docs/formats/kafka-wire.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn, Protocol, TypeAlias, TypeVar, cast

from riverlog.base.ids import NO_TOPIC_ID as NO_TOPIC_ID  # re-exported for the generated classes
from riverlog.gateways.kafka.schema.api_keys import CODECS, VERSIONS, ApiKey


class HasSize(Protocol):
    """Records that the codec does not look into, such as `storage.contract.Slices`; `size` in bytes."""

    @property
    def size(self) -> int: ...


Part: TypeAlias = bytes | bytearray | memoryview | HasSize
Records: TypeAlias = bytes | bytearray | memoryview | HasSize

message_elements_max: Final = 1_000_000  # of all arrays of one message: about 100 MB of Python objects at the worst
records_inline_bytes_max: Final = 1024  # shorter ones are copied into the answer: one part less for sendmsg
flexible_response_header_never: Final = ApiKey.API_VERSIONS  # its client does not know yet what we speak


class DecodeError(ValueError):
    """Bytes that are not what they should be. The message says what, and at which position."""


class EncodeError(ValueError):
    """A message with a value that its version cannot carry: our mistake, not the peer's."""


class Message:
    """What all messages and their structs are: values, with slots, read-only by type (`Final`)."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if self.__class__ is not other.__class__:
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # compared by value and holding lists: not for sets and keys

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{self.__class__.__name__}({fields})"


def _same(left: Any, right: Any) -> bool:
    """Arrays may be lists or tuples."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


class Encoded:
    """An element of an array that was encoded before (see `encode_element`), in place of the element itself."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data: Final = data


Struct_ = TypeVar("Struct_", bound=Message)


def embed(element_type: type[Struct_], data: bytes) -> Struct_:
    """`data` (from `encode_element`, of the same version) as an element of a response's array of that type."""
    del element_type
    return cast(Struct_, Encoded(data))


# What generated decoders call. `b` is the buffer, `p` the position in it, `n` a length or a count.


def uvarint(b: memoryview, p: int) -> tuple[int, int]:
    """An unsigned varint of up to 5 bytes: its value and the position after it."""
    value = b[p]
    p += 1
    if value < 0x80:
        return value, p
    return uvarint_rest(b, p, value)


def uvarint_rest(b: memoryview, p: int, first: int) -> tuple[int, int]:
    """The rest of an unsigned varint whose first byte was `first` (>= 0x80) and ended at `p`."""
    value = first & 0x7F
    for shift in (7, 14, 21, 28):
        byte = b[p]
        p += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, p
    raise DecodeError(f"a varint of more than 5 bytes at position {p - 5}")


def skip_tags(b: memoryview, p: int, n: int) -> int:
    """Passes over a section of `n` tagged fields that this version does not know; `n`'s first byte ended at `p`."""
    if n > 127:
        n, p = uvarint_rest(b, p, n)
    end = len(b)
    for _ in range(n):
        _, p = uvarint(b, p)
        size, p = uvarint(b, p)
        if size > end - p:
            raise DecodeError(f"a tagged field of {size} bytes at position {p}, where {end - p} are left")
        p += size
    return p


def bad_null(what: str, p: int) -> NoReturn:
    raise DecodeError(f"{what} is null before position {p}, and must not be")


def bad_count(what: str, n: int, p: int) -> NoReturn:
    raise DecodeError(f"{what} has {n} elements before position {p}, more than the bytes that are left can hold")


# One for the process, not one a message: decoders that run on several threads at once share it, which is harmless
# because each fills it up again when it begins.
_elements_left: Final = [message_elements_max]


def claim(n: int) -> None:
    """Counts `n` elements. Without that, a frame of 100 MB could become gigabytes of objects."""
    _elements_left[0] -= n
    if _elements_left[0] < 0:
        raise DecodeError(f"more than {message_elements_max} elements in one message")


def bad_tag(tag: int, p: int) -> NoReturn:
    raise DecodeError(f"the tagged field {tag} does not end where its size says, at position {p}")


def _vectors(code: str) -> tuple[Callable[..., tuple[Any, ...]], ...]:
    return tuple(struct.Struct(f">{n}{code}").unpack_from for n in range(9))


_UNPACK: Final = {code: _vectors(code) for code in "bhiq"}
_SIZES: Final = {"b": 1, "h": 2, "i": 4, "q": 8}


def numbers(b: memoryview, p: int, n: int, code: str, what: str) -> tuple[tuple[int, ...], int]:
    """`n` numbers of one type (`code` as in `struct`) and the position after them."""
    if n < 9:
        return _UNPACK[code][n](b, p), p + n * _SIZES[code]
    size = n * _SIZES[code]
    if size > len(b) - p:
        bad_count(what, n, p)
    claim(n)
    return struct.unpack_from(f">{n}{code}", b, p), p + size


_SHORT: Final = struct.Struct(">h")


def strings(b: memoryview, p: int, n: int, what: str) -> tuple[list[str], int]:
    """`n` strings with a length of two bytes each."""
    if n * 2 > len(b) - p:
        bad_count(what, n, p)
    claim(n)
    found = []
    for _ in range(n):
        (size,) = _SHORT.unpack_from(b, p)
        p += 2
        if size < 0:
            bad_null(what, p)
        found.append(str(b[p : p + size], "utf-8"))
        p += size
    return found, p


def compact_strings(b: memoryview, p: int, n: int, what: str) -> tuple[list[str], int]:
    """`n` strings with a varint as length each."""
    if n > len(b) - p:
        bad_count(what, n, p)
    claim(n)
    found = []
    for _ in range(n):
        size, p = uvarint(b, p)
        if size == 0:
            bad_null(what, p)
        found.append(str(b[p : p + size - 1], "utf-8"))
        p += size - 1
    return found, p


# What generated encoders call. `out` grows; `n` is a length or a count, increased by one where the format wants it.


def cannot_be_null(what: str) -> NoReturn:
    raise EncodeError(f"{what} is None, which this version cannot say")


def put_uvarint(out: bytearray, n: int) -> None:
    while n > 127:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)


_COUNTED: Final = {code: tuple(struct.Struct(f">i{n}{code}").pack for n in range(17)) for code in "bhiq"}
_COUNTED_COMPACT: Final = {code: tuple(struct.Struct(f">B{n}{code}").pack for n in range(17)) for code in "bhiq"}


def put_numbers(out: bytearray, items: Sequence[int], code: str) -> None:
    """The count in four bytes, then the numbers."""
    n = len(items)
    if n < 17:
        out += _COUNTED[code][n](n, *items)
    else:
        out += struct.pack(f">i{n}{code}", n, *items)


def put_compact_numbers(out: bytearray, items: Sequence[int], code: str) -> None:
    """The count plus one as a varint, then the numbers."""
    n = len(items)
    if n < 17:
        out += _COUNTED_COMPACT[code][n](n + 1, *items)
    else:
        put_uvarint(out, n + 1)
        out += struct.pack(f">{n}{code}", *items)


def put_strings(out: bytearray, items: Sequence[str]) -> None:
    """The strings alone, with a length of two bytes each."""
    for item in items:
        raw = item.encode()
        out += _SHORT.pack(len(raw))
        out += raw


def put_compact_strings(out: bytearray, items: Sequence[str]) -> None:
    """The strings alone, with a varint as length each."""
    for item in items:
        raw = item.encode()
        put_uvarint(out, len(raw) + 1)
        out += raw


def put_tagged(out: bytearray, tag: int, body: bytes | bytearray) -> None:
    """One tagged field: its tag, its size, its bytes."""
    put_uvarint(out, tag)
    put_uvarint(out, len(body))
    out += body


def records_size(records: Records) -> int:
    """In bytes."""
    return len(records) if isinstance(records, bytes | bytearray | memoryview) else records.size


def put_records(parts: list[Part], out: bytearray, records: Records) -> bytearray:
    """Long records, and those we do not look into, become a part of their own; gives the part to go on with."""
    if isinstance(records, bytes | bytearray | memoryview) and len(records) <= records_inline_bytes_max:
        out += records
        return out
    parts.append(records)
    out = bytearray()
    parts.append(out)
    return out


# What everybody else calls.

_NOT_A_MESSAGE: Final = (struct.error, IndexError, UnicodeDecodeError)
_CANNOT_BE_CARRIED: Final = (struct.error, AttributeError, TypeError, UnicodeEncodeError, ValueError)

Reader: TypeAlias = Callable[[memoryview, int], tuple[Any, int]]
Writer: TypeAlias = Callable[[list[Part], bytearray, Any], None]

_codecs: Final[dict[int, Any]] = {}  # by api key: the module under schema/codec
_LENGTH_AND_CORRELATION: Final = struct.Struct(">ii")
_LENGTH: Final = struct.Struct(">i")
_REQUEST_HEADER: Final = struct.Struct(">ihhih")


def _codec(api_key: int) -> Any:
    """The generated functions of an api key, imported at its first use. Raises KeyError for an unknown key."""
    codec = _codecs.get(api_key)
    if codec is None:
        codec = _codecs[api_key] = import_module(f"riverlog.gateways.kafka.schema.codec.{CODECS[api_key]}")
    return codec


def load_codecs(api_keys: Iterable[int]) -> None:
    """Imports the code of those keys now (about 3 ms each), rather than while the first request of a kind waits."""
    for api_key in api_keys:
        _codec(api_key)


def is_flexible(api_key: int, version: int) -> bool:
    """Whether that version has compact lengths and tagged fields. Raises KeyError for an unknown key."""
    return version >= VERSIONS[api_key][2]


def _read(
    read: Reader | None,
    what: str,
    version: int,
    buffer: bytes | bytearray | memoryview,
    position: int,
    may_be_longer: bool = False,
) -> Any:
    if read is None:
        raise DecodeError(f"{what} has no version {version}")
    view = buffer if isinstance(buffer, memoryview) else memoryview(buffer)
    _elements_left[0] = message_elements_max
    try:
        message, stop = read(view, position)
    except DecodeError as error:
        raise DecodeError(f"{what} version {version}: {error}") from None
    except _NOT_A_MESSAGE as error:
        raise DecodeError(f"{what} version {version}: {len(view)} bytes end early or are not UTF-8: {error}") from None
    if stop != len(view):
        if stop > len(view):
            raise DecodeError(f"{what} version {version}: a value ends at position {stop}, the bytes at {len(view)}")
        if may_be_longer:
            return message
        raise DecodeError(f"{what} version {version}: {len(view) - stop} bytes too many at position {stop}")
    return message


def decode_request(api_key: int, version: int, buffer: bytes | bytearray | memoryview, position: int = 0) -> Any:
    """The request whose body begins at `position` of `buffer`. Its `records` are views of `buffer`.

    Bytes after it are ignored, as Kafka does: where librdkafka asks for the metadata of all topics, it sends three too
    many (it writes the null array with four bytes). Raises DecodeError, for an unknown key or version too.
    """
    try:
        codec = _codecs.get(api_key) or _codec(api_key)
    except KeyError:
        raise DecodeError(f"there is no api key {api_key}") from None
    return _read(codec.READ_REQUEST.get(version), codec.REQUEST, version, buffer, position, may_be_longer=True)


def decode_response(api_key: int, version: int, buffer: bytes | bytearray | memoryview) -> tuple[int, Any]:
    """(correlation id, response) of one frame without its length prefix. Raises DecodeError."""
    view = memoryview(buffer)
    if len(view) < 4:
        raise DecodeError(f"a response of {len(view)} bytes has no correlation id")
    try:
        codec = _codec(api_key)
    except KeyError:
        raise DecodeError(f"there is no api key {api_key}") from None
    correlation_id: int = _LENGTH.unpack_from(view)[0]
    position = 4
    if is_flexible(api_key, version) and api_key != flexible_response_header_never:
        try:
            position = skip_tags(view, 5, view[4])
        except (DecodeError, IndexError) as error:
            raise DecodeError(f"the header of a response: {error}") from None
    return correlation_id, _read(codec.READ_RESPONSE.get(version), codec.RESPONSE, version, view, position)


def _write(write: Writer | None, what: str, version: int, parts: list[Part], out: bytearray, message: Any) -> None:
    if write is None:
        raise EncodeError(f"{what} has no version {version}")
    try:
        write(parts, out, message)
    except _CANNOT_BE_CARRIED as error:
        raise EncodeError(f"{what} version {version} cannot carry this: {error}: {message!r:.2000}") from error


def parts_size(parts: Sequence[Part]) -> int:
    """In bytes."""
    return sum(map(records_size, parts))


def encode_response(api_key: int, version: int, correlation_id: int, response: Message) -> list[Part]:
    """A whole frame with its length prefix, as parts to be sent one after another. Raises EncodeError."""
    codec = _codecs.get(api_key) or _codec(api_key)
    out = bytearray(_LENGTH_AND_CORRELATION.pack(0, correlation_id))
    if version >= VERSIONS[api_key][2] and api_key != flexible_response_header_never:
        out.append(0)
    parts: list[Part] = [out]
    _write(codec.WRITE_RESPONSE.get(version), codec.RESPONSE, version, parts, out, response)
    if len(parts) == 1:
        _LENGTH.pack_into(out, 0, len(out) - 4)
        return parts
    if not parts[-1]:
        parts.pop()
    _LENGTH.pack_into(out, 0, parts_size(parts) - 4)
    return parts


def encode_request(
    api_key: int, version: int, correlation_id: int, client_id: str | None, request: Message
) -> bytes:
    """A whole frame with its length prefix. Raises EncodeError."""
    codec = _codec(api_key)
    raw = b"" if client_id is None else client_id.encode()
    size = -1 if client_id is None else len(raw)
    out = bytearray(_REQUEST_HEADER.pack(0, api_key, version, correlation_id, size) + raw)
    if is_flexible(api_key, version):
        out.append(0)
    parts: list[Part] = [out]
    _write(codec.WRITE_REQUEST.get(version), codec.REQUEST, version, parts, out, request)
    _LENGTH.pack_into(out, 0, parts_size(parts) - 4)
    return b"".join(cast("list[bytes]", parts))


def encode_element(api_key: int, version: int, element: Message) -> bytes:
    """An element of an array at the top of a response (a `MetadataResponseTopic`, say), to be kept and embedded later
    (`embed`) in responses of the same version. Raises EncodeError."""
    out = bytearray()
    try:
        _codec(api_key).WRITE_ELEMENT[element.__class__][version](out, (element,))
    except (*_CANNOT_BE_CARRIED, KeyError) as error:
        raise EncodeError(f"key {api_key} version {version} cannot carry this: {error}: {element!r:.2000}") from error
    return bytes(out)


def _structure_codec(name: str) -> Any:
    module = import_module("riverlog.gateways.kafka.schema.api_keys").STRUCTURES[name]
    return import_module(f"riverlog.gateways.kafka.schema.codec.{module}")


def decode_structure(structure: type[Struct_], version: int, buffer: bytes | bytearray | memoryview) -> Struct_:
    """What is neither request nor response: a ConsumerProtocolSubscription, a header, the value of a control record.

    All of `buffer`, without the version that some of them carry before. Raises DecodeError.
    """
    codec = _structure_codec(structure.__name__)
    found: Struct_ = _read(codec.READ.get(version), structure.__name__, version, buffer, 0)
    return found


def encode_structure(version: int, message: Message) -> bytes:
    """The opposite of `decode_structure`. Raises EncodeError."""
    out = bytearray()
    name = message.__class__.__name__
    _write(_structure_codec(name).WRITE.get(version), name, version, [], out, message)
    return bytes(out)
