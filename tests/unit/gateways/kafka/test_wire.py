"""The primitives, the four entry points, and what a decoder refuses. Every message is in tests/properties."""

from __future__ import annotations

import pytest

from riverlog.gateways.kafka import wire
from riverlog.gateways.kafka.schema.api_keys import VERSIONS, ApiKey
from riverlog.gateways.kafka.schema.api_versions import ApiVersionsRequest, ApiVersionsResponse
from riverlog.gateways.kafka.schema.consumer_protocol_assignment import ConsumerProtocolAssignment, TopicPartition
from riverlog.gateways.kafka.schema.fetch import FetchableTopicResponse, FetchResponse, NodeEndpoint, PartitionData
from riverlog.gateways.kafka.schema.heartbeat import HeartbeatRequest, HeartbeatResponse
from riverlog.gateways.kafka.schema.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from riverlog.gateways.kafka.schema.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from riverlog.gateways.kafka.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from riverlog.gateways.kafka.wire import DecodeError, EncodeError


class Slices:
    """Looks like `storage.contract.Slices`."""

    def __init__(self, size: int) -> None:
        self.size = size


def fetched(*records: wire.Records | None) -> FetchResponse:
    partitions = [PartitionData(partition_index=index, records=each) for index, each in enumerate(records)]
    return FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=partitions)])


def joined(parts: list[wire.Part]) -> bytes:
    return b"".join(bytes(part) if isinstance(part, (bytes, bytearray, memoryview)) else bytes(part.size) for part in parts)


def test_a_request_frame_byte_for_byte() -> None:
    request = HeartbeatRequest(group_id="g", generation_id=3, member_id="mm", group_instance_id=None)
    assert wire.encode_request(ApiKey.HEARTBEAT, 0, 9, "c", request) == (
        b"\0\0\0\x16" + b"\0\x0c\0\0\0\0\0\x09\0\1c" + b"\0\1g\0\0\0\3\0\2mm"
    )
    assert wire.encode_request(ApiKey.HEARTBEAT, 4, 9, None, request) == (
        b"\0\0\0\x16" + b"\0\x0c\0\4\0\0\0\x09\xff\xff\0" + b"\2g\0\0\0\3\3mm\0\0"
    )


def test_a_response_frame_byte_for_byte() -> None:
    response = HeartbeatResponse(error_code=27, throttle_time_ms=1)
    assert joined(wire.encode_response(12, 0, 5, response)) == b"\0\0\0\6\0\0\0\5\0\x1b"
    assert joined(wire.encode_response(12, 4, 5, response)) == b"\0\0\0\x0c\0\0\0\5\0\0\0\0\1\0\x1b\0"


def test_api_versions_never_has_a_flexible_response_header() -> None:
    frame = joined(wire.encode_response(18, 3, 5, ApiVersionsResponse(finalized_features_epoch=-1)))
    assert frame == b"\0\0\0\x0c\0\0\0\5" + b"\0\0\1\0\0\0\0\0"
    assert wire.decode_response(18, 3, frame[4:]) == (5, ApiVersionsResponse())


def test_records_that_are_not_looked_into_are_parts_of_their_own() -> None:
    slices, empty, large = Slices(70_000), Slices(0), bytes(5000)
    parts = wire.encode_response(ApiKey.FETCH, 12, 1, fetched(slices, b"short", large, None, empty))
    assert [part for part in parts if not isinstance(part, bytearray)] == [slices, large, empty]
    assert parts[3] is large, "not copied"
    frame = joined(parts)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    _, decoded = wire.decode_response(ApiKey.FETCH, 12, frame[4:])
    found = [partition.records for partition in decoded.responses[0].partitions]
    assert [None if each is None else len(each) for each in found] == [70_000, 5, 5000, None, 0]


def test_a_last_part_with_nothing_in_it_is_left_out() -> None:
    slices = Slices(9)
    parts = wire.encode_response(ApiKey.FETCH, 4, 1, fetched(slices))
    assert parts[-1] is slices
    assert len(parts) == 2


def test_decoded_records_are_views() -> None:
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=1, records=b"abc")])
    frame = bytearray(wire.encode_request(0, 9, 1, None, ProduceRequest(acks=1, timeout_ms=2, topic_data=[data])))
    request = wire.decode_request(0, 9, memoryview(frame)[4:], 11)
    records = request.topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    frame[frame.index(b"abc")] = ord("A")
    assert bytes(records) == b"Abc"
    assert not records.readonly, "the engine sets offsets in place"


@pytest.mark.parametrize("version", range(14))
def test_encoded_elements_stand_for_the_elements(version: int) -> None:
    partitions = [MetadataResponsePartition(partition_index=n, replica_nodes=(1,), isr_nodes=(1,)) for n in range(3)]
    topics = [MetadataResponseTopic(name=f"t{n}", partitions=partitions) for n in range(3)]
    plain = MetadataResponse(topics=topics)
    kept = wire.embed(MetadataResponseTopic, wire.encode_element(ApiKey.METADATA, version, topics[1]))
    mixed = MetadataResponse(topics=[topics[0], kept, topics[2]])
    assert wire.encode_response(3, version, 1, mixed) == wire.encode_response(3, version, 1, plain)


def test_structures_have_their_own_entry_points() -> None:
    value = ConsumerProtocolAssignment(
        assigned_partitions=[TopicPartition(topic="t", partitions=(0, 2))], user_data=b"u"
    )
    raw = wire.encode_structure(1, value)
    assert raw == b"\0\0\0\1\0\1t\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\1u"
    assert wire.decode_structure(ConsumerProtocolAssignment, 1, raw) == value
    with pytest.raises(DecodeError, match="no version 9"):
        wire.decode_structure(ConsumerProtocolAssignment, 9, raw)


@pytest.mark.parametrize(
    ("api_key", "version", "body", "reason"),
    [
        (12, 0, b"", "end early"),
        (12, 0, b"\0\1g\0\0\0\3\0\2m", "a value ends at position"),
        (12, 0, b"\xff\xffg", "group_id is null before position 2"),
        (12, 0, b"\0\1\xff\0\0\0\3\0\2mm", "UTF-8"),
        (12, 4, b"\0", "group_id is null"),
        (12, 4, b"\xff\xff\xff\xff\xff\xff", "more than 5 bytes"),
        (12, 4, b"\2g\0\0\0\3\3mm\0\1\x63\x7f", "a tagged field of 127 bytes"),
        (3, 1, b"\x7f\xff\xff\xff", "topics has 2147483647 elements"),
        (3, 9, b"\xff\xff\xff\xff\x0f" + bytes(20), "topics has 4294967294 elements"),
        (99, 0, b"", "there is no api key 99"),
        (0, 2, b"", "ProduceRequest has no version 2"),
        (22, 6, b"", "InitProducerIdRequest has no version 6"),  # not stable
    ],
)
def test_bad_bytes_are_refused_with_the_place(api_key: int, version: int, body: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        wire.decode_request(api_key, version, body)


def test_librdkafka_may_ask_for_all_topics_with_three_bytes_too_many() -> None:
    """confluent-kafka 2.16, list_topics(): the null array has four bytes where one is right. Kafka ignores the rest."""
    body = bytes.fromhex("00000000010000")
    assert wire.decode_request(3, 13, body).topics is None


@pytest.mark.parametrize("count", [wire.message_elements_max, wire.message_elements_max + 1])
def test_a_message_has_a_limited_number_of_elements(count: int) -> None:
    """Two bytes a topic on the wire would be seventy in memory."""
    out = bytearray()
    wire.put_uvarint(out, count + 1)
    body = bytes(out) + b"\1\0" * count + bytes(4)
    if count <= wire.message_elements_max:
        assert len(wire.decode_request(ApiKey.METADATA, 9, body).topics) == count
    else:
        with pytest.raises(DecodeError, match="more than 1000000 elements"):
            wire.decode_request(ApiKey.METADATA, 9, body)


def test_elements_of_all_arrays_count_together() -> None:
    group = OffsetFetchRequestGroup(
        group_id="g", topics=[OffsetFetchRequestTopics(name="", partition_indexes=range(10_000)) for _ in range(101)]
    )
    frame = wire.encode_request(ApiKey.OFFSET_FETCH, 8, 1, None, OffsetFetchRequest(groups=[group]))
    with pytest.raises(DecodeError, match="more than 1000000 elements"):
        wire.decode_request(ApiKey.OFFSET_FETCH, 8, frame, 15)


def test_a_known_tag_must_fill_its_size() -> None:
    response = FetchResponse(node_endpoints=[NodeEndpoint(node_id=1, host="h", port=2)])
    frame = joined(wire.encode_response(1, 16, 1, response))[4:]
    assert wire.decode_response(1, 16, frame)[1] == response
    at = frame.rindex(b"\x01\x00\x0d") + 2
    with pytest.raises(DecodeError, match=r"tagged field 0 does not end where its size says|end early"):
        wire.decode_response(1, 16, frame[:at] + b"\x0c" + frame[at + 1 :])


def test_a_value_that_the_version_cannot_carry_is_our_mistake() -> None:
    with pytest.raises(EncodeError, match="HeartbeatRequest version 0"):
        wire.encode_request(12, 0, 1, None, HeartbeatRequest(generation_id=1 << 40))
    with pytest.raises(EncodeError, match="topics is None"):
        wire.encode_request(3, 0, 1, None, MetadataRequest(topics=None))
    with pytest.raises(EncodeError, match="MetadataResponse has no version 77"):
        wire.encode_response(3, 77, 1, MetadataResponse())


def test_messages_are_values() -> None:
    one, other = ApiVersionsRequest(client_software_name="x"), ApiVersionsRequest(client_software_name="x")
    assert one == other
    assert one != ApiVersionsRequest()
    assert one != HeartbeatRequest()
    assert repr(one) == "ApiVersionsRequest(client_software_name='x', client_software_version='')"
    assert MetadataRequest(topics=[]) == MetadataRequest(topics=())
    with pytest.raises(AttributeError):
        one.other = 1  # type: ignore[attr-defined]  # there are slots only
    with pytest.raises(TypeError):
        hash(one)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16383, 16384, 2**31 - 1, 2**32 - 1])
def test_varints_come_back(number: int) -> None:
    out = bytearray()
    wire.put_uvarint(out, number)
    assert wire.uvarint(memoryview(out), 0) == (number, len(out))


@pytest.mark.parametrize("count", [0, 1, 8, 9, 16, 17, 200])
def test_arrays_of_numbers_and_of_strings_of_any_length(count: int) -> None:
    for code, low in (("b", -128), ("h", -(2**15)), ("i", -(2**31)), ("q", -(2**63))):
        items = [low + n if n % 2 else n % 100 for n in range(count)]
        for put, head in ((wire.put_numbers, 4), (wire.put_compact_numbers, 1 if count < 127 else 2)):
            out = bytearray()
            put(out, items, code)
            found, position = wire.numbers(memoryview(out), head, count, code, "numbers")
            assert (list(found), position) == (items, len(out))
    words = ["é" * n for n in range(count)]
    plain, compact = bytearray(), bytearray()
    wire.put_strings(plain, words)
    wire.put_compact_strings(compact, words)
    assert wire.strings(memoryview(plain), 0, count, "words") == (words, len(plain))
    assert wire.compact_strings(memoryview(compact), 0, count, "words") == (words, len(compact))


def test_codecs_can_be_imported_ahead() -> None:
    wire.load_codecs([ApiKey.PRODUCE, ApiKey.FETCH])
    assert wire.is_flexible(ApiKey.PRODUCE, 9)
    assert not wire.is_flexible(ApiKey.PRODUCE, 8)
    assert VERSIONS[ApiKey.INIT_PRODUCER_ID] == (0, 5, 2)
