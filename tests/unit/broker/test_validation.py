"""What a batch needs beyond its header: when it is opened, what is refused and with which record, what it becomes."""

from __future__ import annotations

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import PartitionId, TopicId
from riverlog.broker.validation import look, must_look
from riverlog.env.entropy import SeededEntropy
from riverlog.records.batch import RecordError, check_batch, records_of
from riverlog.records.builder import build_batch
from riverlog.records.compression import Compression
from riverlog.records.header import HEADER_BYTES, read_header
from riverlog.records.record import NewRecord
from riverlog.state.topic_configs import TopicConfig, resolve
from riverlog.storage.contract import Append

NOW = 1_700_000_000_000
PARTITION = PartitionId(TopicId(bytes(16)), 0)


def config(**overrides: str) -> TopicConfig:
    return resolve({name.replace("_", "."): value for name, value in overrides.items()}, {})


def batch(*records: NewRecord, **options: object) -> Append:
    data = build_batch(list(records) or [NewRecord(NOW, b"k", b"v")], **options)  # type: ignore[arg-type]
    return Append(PARTITION, data, read_header(data))


def refusal(append: Append, settings: TopicConfig) -> RiverlogError:
    outcome = look(append, settings, NOW)
    assert isinstance(outcome, RiverlogError)
    return outcome


def test_an_ordinary_batch_is_not_opened() -> None:
    for compression in Compression:
        assert not must_look(batch(compression=compression).header, config(), NOW)


@pytest.mark.parametrize(
    "overrides",
    [
        {"cleanup_policy": "compact"},
        {"compression_type": "zstd"},
        {"message_timestamp_type": "LogAppendTime"},
        {"message_timestamp_before_max_ms": "1000"},
    ],
)
def test_a_configuration_that_asks_for_a_look_gets_one(overrides: dict[str, str]) -> None:
    assert must_look(batch().header, config(**overrides), NOW)


def test_a_batch_from_the_future_is_opened_and_the_record_is_named() -> None:
    late = batch(NewRecord(NOW, None, b"fine"), NewRecord(NOW + 3_600_001, None, b"too far"))
    assert must_look(late.header, config(), NOW)
    error = refusal(late, config())
    assert error.kind is ErrorKind.INVALID_TIMESTAMP
    assert isinstance(error, RecordError)
    assert error.record_index == 1


def test_an_old_record_is_refused_where_the_topic_says_so() -> None:
    settings = config(message_timestamp_before_max_ms="1000")
    error = refusal(batch(NewRecord(NOW - 1001, None, b"old")), settings)
    assert error.kind is ErrorKind.INVALID_TIMESTAMP
    assert not isinstance(look(batch(NewRecord(NOW - 1000, None, b"just")), settings, NOW), RiverlogError)


def test_a_compacted_topic_refuses_a_null_key_with_its_index() -> None:
    settings = config(cleanup_policy="compact")
    for compression in Compression:
        error = refusal(batch(NewRecord(NOW, b"k", b""), NewRecord(NOW, None, b""), compression=compression), settings)
        assert isinstance(error, RecordError)
        assert error.record_index == 1
    assert look(batch(), settings, NOW) == batch()


def test_another_codec_is_written_and_the_records_stay() -> None:
    records = [NewRecord(NOW + n, b"key%d" % n, b"value" * 50) for n in range(20)]
    for codec, name in ((Compression.ZSTD, "zstd"), (Compression.GZIP, "gzip"), (Compression.NONE, "uncompressed")):
        outcome = look(batch(*records, compression=Compression.LZ4), config(compression_type=name), NOW)
        assert isinstance(outcome, Append)
        assert outcome.header == read_header(outcome.batch)
        assert outcome.header.compression == codec
        check_batch(outcome.batch, outcome.header)
        assert [record.key for record in records_of(outcome.batch, outcome.header)] == [record.key for record in records]


def test_a_batch_that_grows_over_the_limit_is_refused() -> None:
    packed = batch(NewRecord(NOW, b"k", b"x" * 10_000), compression=Compression.GZIP)
    error = refusal(packed, config(compression_type="uncompressed", max_message_bytes="5000"))
    assert error.kind is ErrorKind.MESSAGE_TOO_LARGE


def test_log_append_time_is_stamped_and_signed() -> None:
    outcome = look(batch(NewRecord(5, b"k", b"v")), config(message_timestamp_type="LogAppendTime"), NOW)
    assert isinstance(outcome, Append)
    assert outcome.header.is_log_append_time
    assert outcome.header.max_timestamp == NOW
    check_batch(outcome.batch, outcome.header)
    assert [record.timestamp_ms for record in records_of(outcome.batch, outcome.header)] == [NOW]


def test_only_the_broker_gives_log_append_time() -> None:
    with pytest.raises(RiverlogError) as caught:
        must_look(batch(log_append_time_ms=NOW).header, config(), NOW)
    assert caught.value.kind is ErrorKind.INVALID_TIMESTAMP


def test_records_that_do_not_parse_are_refused_with_their_index() -> None:
    data = build_batch([NewRecord(NOW, b"k", b"v"), NewRecord(NOW, b"k", b"v")])
    data[HEADER_BYTES + 8] = 0x7F  # the second record now claims to be longer than the batch
    error = refusal(Append(PARTITION, data, read_header(data)), config(cleanup_policy="compact"))
    assert isinstance(error, RecordError)
    assert error.kind is ErrorKind.INVALID_RECORD


def test_an_unknown_codec_is_refused() -> None:
    header = batch().header
    with pytest.raises(RiverlogError) as caught:
        must_look(header._replace(attributes=7), config(), NOW)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_COMPRESSION


def test_a_record_without_a_timestamp_is_of_no_time() -> None:
    settings = config(message_timestamp_before_max_ms="1000")
    assert not isinstance(look(batch(NewRecord(-1, None, b"none")), settings, NOW), RiverlogError)
    error = refusal(batch(NewRecord(NOW, None, b"fine"), NewRecord(-2, None, b"odd")), settings)
    assert isinstance(error, RecordError)
    assert (error.record_index, error.kind) == (1, ErrorKind.INVALID_TIMESTAMP)


@pytest.mark.parametrize(("name", "low", "high"), [("gzip", 1, 9), ("lz4", 1, 17), ("zstd", 1, 19)])
def test_a_level_is_the_codecs(name: str, low: int, high: int) -> None:
    entropy = SeededEntropy(1)
    words = [entropy.token_bytes(3) for _ in range(300)]
    value = b" ".join(words[entropy.below(300)] for _ in range(20_000))
    sizes = []
    for level in (low, high):
        settings = resolve({"compression.type": name, f"compression.{name}.level": str(level)}, {})
        outcome = look(batch(NewRecord(NOW, b"k", value)), settings, NOW)
        assert isinstance(outcome, Append)
        assert [record.value for record in records_of(outcome.batch, outcome.header)] == [value]
        sizes.append(outcome.header.size)
    assert sizes[0] != sizes[1]
    assert max(sizes) < len(value)
