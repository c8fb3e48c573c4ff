"""What a produced batch needs beyond its header, by its topic's configuration: null keys, timestamps, another codec.

`must_look` decides by the header alone whether a batch must be opened; nearly none must. `look` opens it, on a thread: it gives
the batch to append (its own bytes, or new ones) or says which record is wrong. Pure.
"""

from __future__ import annotations

from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.units import INT64_MAX
from riverlog.records.batch import RecordError, check_offset_deltas, null_key_in, spans_of, unpacked_records
from riverlog.records.builder import recompressed, stamp_log_append_time
from riverlog.records.compression import Compression, compression_of
from riverlog.records.header import BatchHeader, read_header
from riverlog.state.topic_configs import TopicConfig
from riverlog.storage.contract import Append

NO_TIMESTAMP: Final = -1  # of a record whose producer gave none: Kafka bounds it not

CODECS: Final = {
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}


def must_look(header: BatchHeader, config: TopicConfig, now_ms: int) -> bool:
    """Raises what the header alone shows to be wrong: an unknown codec, a kind of timestamp that only brokers write."""
    compression = compression_of(header.attributes)
    if config.log_append_time or config.cleanup_compact:
        return True
    if header.is_log_append_time:
        raise RiverlogError(
            ErrorKind.INVALID_TIMESTAMP,
            "the batch claims LogAppendTime, which only the broker gives: set message.timestamp.type=LogAppendTime instead",
        )
    if config.compression_type != "producer" and CODECS[config.compression_type] is not compression:
        return True
    return (
        header.max_timestamp > now_ms + config.message_timestamp_after_ms_max
        or config.message_timestamp_before_ms_max != INT64_MAX
    )


def look(append: Append, config: TopicConfig, now_ms: int) -> Append | RiverlogError:
    """`append` as it may be appended; its batch is writable and the caller's own. Raises nothing of ours."""
    try:
        return _look(append, config, now_ms)
    except RiverlogError as error:
        return error


def _look(append: Append, config: TopicConfig, now_ms: int) -> Append:
    batch, header = append.batch, append.header
    _check_records(append, config, now_ms)
    target = CODECS.get(config.compression_type)
    if target is not None and target is not compression_of(header.attributes):
        batch = recompressed(batch, header, target, _level(target, config))
        header = read_header(batch)
        if header.size > config.max_message_bytes:
            raise RiverlogError(
                ErrorKind.MESSAGE_TOO_LARGE,
                f"the batch has {header.size} bytes as {config.compression_type}, more than max.message.bytes="
                f"{config.max_message_bytes}; send smaller batches or raise it",
            )
    if config.log_append_time:
        assert not isinstance(batch, bytes), "a batch that is looked into is the caller's own"
        header = stamp_log_append_time(batch, header, now_ms)
    return Append(append.partition, batch, header)


def _check_records(append: Append, config: TopicConfig, now_ms: int) -> None:
    header = append.header
    records = unpacked_records(append.batch, header)
    if config.cleanup_compact and (index := null_key_in(records, header)) is not None:
        raise RecordError(index, f"record {index} has no key, which a compacted topic needs")
    spans = spans_of(records, header)
    check_offset_deltas(spans)
    if config.log_append_time:
        return
    earliest = now_ms - config.message_timestamp_before_ms_max
    latest = now_ms + config.message_timestamp_after_ms_max
    base = header.base_timestamp
    for index, delta in enumerate(spans.timestamp_deltas):
        if not earliest <= base + delta <= latest and base + delta != NO_TIMESTAMP:
            error = RecordError(
                index,
                f"record {index} has the timestamp {base + delta}, outside of {earliest} to {latest} "
                "(message.timestamp.before.max.ms and message.timestamp.after.max.ms)",
            )
            error.kind = ErrorKind.INVALID_TIMESTAMP
            raise error


def _level(codec: Compression, config: TopicConfig) -> int | None:
    match codec:
        case Compression.GZIP:
            return config.compression_gzip_level
        case Compression.LZ4:
            return config.compression_lz4_level
        case Compression.ZSTD:
            return config.compression_zstd_level
        case Compression.NONE | Compression.SNAPPY:
            return None
