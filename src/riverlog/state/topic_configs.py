"""Every configuration of a topic as data: type, range, default, and the broker setting that gives its default.

Invariant: `TOPIC_CONFIGS` has every entry of Kafka's list and ours (`riverlog.…`); each default passes its own check.
Not here: who may change a configuration, and where it is kept (`broker/topics.py`). Mostly a table, hence its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from math import isnan
from re import fullmatch
from typing import Any, Final, TypeAlias

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.limits import kept_text_length_max
from riverlog.base.units import DAY_MS, GIB, HOUR_MS, INT32_MAX, INT64_MAX, MIB, MINUTE_MS

Value: TypeAlias = int | float | bool | str | tuple[str, ...]


class ConfigType(IntEnum):
    """Types with the numbers of the Kafka protocol (DescribeConfigs)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


RANGES: Final[Mapping[ConfigType, tuple[int, int]]] = {
    ConfigType.SHORT: (-(2**15), 2**15 - 1),
    ConfigType.INT: (-INT32_MAX - 1, INT32_MAX),
    ConfigType.LONG: (-INT64_MAX - 1, INT64_MAX),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSpec:
    """One configuration. `low` and `high` are inclusive; `also` is a value outside of them that is allowed too;
    `choices` are the only texts (or elements of a list), else `element` is the form of a list's; `impossible` is a value of
    the right form that cannot be had here; `obeyed`: riverlog acts on it, else it is kept and shown;
    `broker_names`: the broker's settings for its default, first the one that wins, with the factor to our unit."""

    name: str
    type: ConfigType
    default: str
    low: float | None = None
    high: float | None = None
    also: int | None = None
    choices: tuple[str, ...] = ()
    element: str = ""
    impossible: str = ""
    broker_names: tuple[tuple[str, int], ...] = ()
    obeyed: bool = True
    documentation: str = ""

    @property
    def allowed(self) -> str:
        """What a value may be, for people."""
        if self.type is ConfigType.BOOLEAN:
            return "true or false"
        if self.element:
            return "* or a comma-separated list of partition:broker"
        if self.type is ConfigType.LIST:
            return f"a comma-separated list of {', '.join(self.choices)}" if self.choices else "a comma-separated list"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kind = "a number" if self.type is ConfigType.DOUBLE else f"a whole number ({self.type.name.lower()})"
        low, high = _number_text(self.low), _number_text(self.high)
        span = f" from {low} to {high}" if low and high else f" of at least {low}" if low else ""
        return f"{kind}{span}{f', or {self.also}' if self.also is not None else ''}"

    def parse(self, text: str) -> Value:
        """The typed value. Raises INVALID_CONFIG naming the configuration, the value and what is allowed."""
        value = _parse(self.type, text.strip())
        if value is None or not self._in_range(value):
            raise RiverlogError(
                ErrorKind.INVALID_CONFIG, f"{self.name}={text!r} is not allowed: give {self.allowed}"
            )
        return value

    def _in_range(self, value: Value) -> bool:
        if isinstance(value, tuple):
            known = not self.choices or all(one in self.choices for one in value)
            formed = not self.element or value == ("*",) or all(fullmatch(self.element, one) for one in value)
            return len(set(value)) == len(value) and known and formed
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if isinstance(value, bool):
            return True
        if self.also is not None and value == self.also:
            return True
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def _number_text(number: float | None) -> str:
    return "" if number is None else f"{number:.15g}"


def _parse(kind: ConfigType, text: str) -> Value | None:
    """None: `text` is not of that type."""
    if kind is ConfigType.BOOLEAN:
        return {"true": True, "false": False}.get(text.lower())
    if kind is ConfigType.STRING:
        return text
    if kind is ConfigType.LIST:
        return tuple(one.strip() for one in text.split(",")) if text else ()
    if kind is ConfigType.DOUBLE:
        try:
            number = float(text)
        except ValueError:
            return None
        return None if isnan(number) else number
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        return None
    low, high = RANGES[kind]
    whole = int(text)
    return whole if low <= whole <= high else None


def _named(*names: str) -> tuple[tuple[str, int], ...]:
    """A broker setting's unit is read off its end: minutes and hours are brought to milliseconds."""
    units = {"minutes": MINUTE_MS, "hours": HOUR_MS}
    return tuple((one, units.get(one.rpartition(".")[2], 1)) for one in names)


_INT, _LONG, _BOOLEAN, _LIST = ConfigType.INT, ConfigType.LONG, ConfigType.BOOLEAN, ConfigType.LIST
_STRING, _DOUBLE = ConfigType.STRING, ConfigType.DOUBLE

_SPECS: Final = (
    ConfigSpec(
        name="cleanup.policy", type=_LIST, default="delete", choices=("compact", "delete"),
        broker_names=_named("log.cleanup.policy"),
        documentation="Old records go by retention (delete), by key (compact), or both.",
    ),
    ConfigSpec(
        name="compression.gzip.level", type=_INT, default="-1", low=1, high=9, also=-1,
        broker_names=_named("compression.gzip.level"),
        documentation="The level where the broker itself compresses with gzip.",
    ),
    ConfigSpec(
        name="compression.lz4.level", type=_INT, default="9", low=1, high=17,
        broker_names=_named("compression.lz4.level"),
        documentation="The level where the broker itself compresses with lz4.",
    ),
    ConfigSpec(
        name="compression.type", type=_STRING, default="producer",
        choices=("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"), broker_names=_named("compression.type"),
        documentation="How batches are compressed in the log; producer: as they came.",
    ),
    ConfigSpec(
        name="compression.zstd.level", type=_INT, default="3", low=-131072, high=22,
        broker_names=_named("compression.zstd.level"),
        documentation="The level where the broker itself compresses with zstd.",
    ),
    ConfigSpec(
        name="delete.retention.ms", type=_LONG, default=str(DAY_MS), low=0,
        broker_names=_named("log.cleaner.delete.retention.ms"),
        documentation="How long a compacted topic keeps the markers of deleted keys.",
    ),
    ConfigSpec(
        name="errors.deadletterqueue.group.enable", type=_BOOLEAN, default="false", obeyed=False,
        documentation="Whether share groups may use this topic as their dead letter queue: share groups are not served yet.",
    ),
    ConfigSpec(
        name="file.delete.delay.ms", type=_LONG, default=str(MINUTE_MS), low=0,
        broker_names=_named("log.segment.delete.delay.ms"),
        documentation="How long the file of a removed segment stays before it is deleted.",
    ),
    ConfigSpec(
        name="flush.messages", type=_LONG, default=str(INT64_MAX), low=1,
        broker_names=_named("log.flush.interval.messages"),
        documentation="After how many records a partition is synced, where nobody waits for it.",
    ),
    ConfigSpec(
        name="flush.ms", type=_LONG, default=str(INT64_MAX), low=0,
        broker_names=_named("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
        documentation="After how many milliseconds a partition is synced, where nobody waits for it.",
    ),
    ConfigSpec(
        name="follower.replication.throttled.replicas", type=_LIST, default="", element=r"\d+:\d+", obeyed=False,
        documentation="Which replicas' traffic is throttled: there is one replica of each partition, and no such traffic.",
    ),
    ConfigSpec(
        name="index.interval.bytes", type=_INT, default="4096", low=0, broker_names=_named("log.index.interval.bytes"),
        documentation="A segment's index gets one entry for about that many bytes.",
    ),
    ConfigSpec(
        name="leader.replication.throttled.replicas", type=_LIST, default="", element=r"\d+:\d+", obeyed=False,
        documentation="Which replicas' traffic is throttled: there is one replica of each partition, and no such traffic.",
    ),
    ConfigSpec(
        name="local.retention.bytes", type=_LONG, default="-2", low=-2,
        broker_names=_named("log.local.retention.bytes"), obeyed=False,
        documentation="How much of a tiered partition stays on the local disk; none is tiered, retention.bytes counts.",
    ),
    ConfigSpec(
        name="local.retention.ms", type=_LONG, default="-2", low=-2,
        broker_names=_named("log.local.retention.ms"), obeyed=False,
        documentation="How long a tiered partition stays on the local disk; none is tiered, retention.ms counts.",
    ),
    ConfigSpec(
        name="max.compaction.lag.ms", type=_LONG, default=str(INT64_MAX), low=1,
        broker_names=_named("log.cleaner.max.compaction.lag.ms"),
        documentation="After how long at most a record of a compacted topic can be compacted away.",
    ),
    ConfigSpec(
        name="max.message.bytes", type=_INT, default="1048588", low=0, broker_names=_named("message.max.bytes"),
        documentation="The largest batch, as it is compressed, that the topic takes.",
    ),
    ConfigSpec(
        name="message.timestamp.after.max.ms", type=_LONG, default=str(HOUR_MS), low=0,
        broker_names=_named("log.message.timestamp.after.max.ms"),
        documentation="How far a record's timestamp may lie in the broker's future.",
    ),
    ConfigSpec(
        name="message.timestamp.before.max.ms", type=_LONG, default=str(INT64_MAX), low=0,
        broker_names=_named("log.message.timestamp.before.max.ms"),
        documentation="How far a record's timestamp may lie in the broker's past.",
    ),
    ConfigSpec(
        name="message.timestamp.type", type=_STRING, default="CreateTime", choices=("CreateTime", "LogAppendTime"),
        broker_names=_named("log.message.timestamp.type"),
        documentation="Whose clock gives the timestamps: the producer's or the broker's.",
    ),
    ConfigSpec(
        name="min.cleanable.dirty.ratio", type=_DOUBLE, default="0.5", low=0, high=1,
        broker_names=_named("log.cleaner.min.cleanable.ratio"),
        documentation="Which share of a log must be new before it is compacted.",
    ),
    ConfigSpec(
        name="min.compaction.lag.ms", type=_LONG, default="0", low=0,
        broker_names=_named("log.cleaner.min.compaction.lag.ms"),
        documentation="How long at least a record of a compacted topic stays.",
    ),
    ConfigSpec(
        name="min.insync.replicas", type=_INT, default="1", low=1,
        broker_names=_named("min.insync.replicas"),
        documentation="How many replicas acks=all waits for. There is one, synced to the disk, so more is not counted, but "
        "refused with riverlog.strict.replication.",
    ),
    ConfigSpec(
        name="preallocate", type=_BOOLEAN, default="false", broker_names=_named("log.preallocate"),
        documentation="Whether the disk reserves room for a whole segment when it begins; its file shows what was written.",
    ),
    ConfigSpec(
        name="remote.log.copy.disable", type=_BOOLEAN, default="false", obeyed=False,
        documentation="Whether a tiered topic stops copying segments to the object store; none is tiered.",
    ),
    ConfigSpec(
        name="remote.log.delete.on.disable", type=_BOOLEAN, default="false", obeyed=False,
        documentation="Whether copied segments are deleted when tiering is switched off; there are none.",
    ),
    ConfigSpec(
        name="remote.storage.enable", type=_BOOLEAN, default="false", impossible="true",
        documentation="Whether sealed segments are copied to an object store: not served yet, all of a log is local.",
    ),
    ConfigSpec(
        name="retention.bytes", type=_LONG, default="-1", broker_names=_named("log.retention.bytes"),
        documentation="How large a partition may grow before its oldest segments are removed; -1: without limit.",
    ),
    ConfigSpec(
        name="retention.ms", type=_LONG, default=str(7 * DAY_MS), low=-1,
        broker_names=_named("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
        documentation="How long records are kept; -1: for ever.",
    ),
    ConfigSpec(
        name="riverlog.durability", type=_STRING, default="fsync", choices=("fsync", "page-cache"),
        broker_names=_named("riverlog.durability"),
        documentation="fsync: acks=all answers, and readers see, what is on the disk. page-cache: what Kafka does.",
    ),
    ConfigSpec(
        name="segment.bytes", type=_INT, default=str(GIB), low=MIB, broker_names=_named("log.segment.bytes"),
        documentation="How large a segment's file may grow.",
    ),
    ConfigSpec(
        name="segment.index.bytes", type=_INT, default=str(10 * MIB), low=4,
        broker_names=_named("log.index.size.max.bytes"),
        documentation="How large a segment's index may grow.",
    ),
    ConfigSpec(
        name="segment.jitter.ms", type=_LONG, default="0", low=0,
        broker_names=_named("log.roll.jitter.ms", "log.roll.jitter.hours"),
        documentation="How much a segment's age may fall short of segment.ms, so that not all roll at once.",
    ),
    ConfigSpec(
        name="segment.ms", type=_LONG, default=str(7 * DAY_MS), low=1,
        broker_names=_named("log.roll.ms", "log.roll.hours"),
        documentation="After how long a segment is sealed, even where it is not full.",
    ),
    ConfigSpec(
        name="unclean.leader.election.enable", type=_BOOLEAN, default="false",
        broker_names=_named("unclean.leader.election.enable"), obeyed=False,
        documentation="Whether a replica that lags may lead: there is one replica, and it leads.",
    ),
)

TOPIC_CONFIGS: Final[Mapping[str, ConfigSpec]] = {spec.name: spec for spec in _SPECS}

BROKER_SYNONYMS: Final[Mapping[str, tuple[str, int]]] = {
    broker_name: (spec.name, factor) for spec in _SPECS for broker_name, factor in spec.broker_names
}
"""Broker setting -> (topic configuration, factor to its unit). Of several for one, the earlier one wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """A topic's configuration, resolved and typed: its own, else the broker's, else the default. Units in the names."""

    cleanup_delete: bool
    cleanup_compact: bool
    compression_type: str
    compression_gzip_level: int
    compression_lz4_level: int
    compression_zstd_level: int
    delete_retention_ms: int
    file_delete_delay_ms: int
    flush_messages: int
    flush_ms: int
    index_interval_bytes: int
    max_compaction_lag_ms: int
    max_message_bytes: int
    message_timestamp_after_ms_max: int
    message_timestamp_before_ms_max: int
    log_append_time: bool  # message.timestamp.type
    min_cleanable_dirty_ratio: float
    min_compaction_lag_ms: int
    min_insync_replicas: int
    preallocate: bool
    retention_bytes: int  # -1: without limit
    retention_ms: int  # -1: for ever
    segment_bytes: int
    segment_index_bytes: int
    segment_jitter_ms: int
    segment_ms: int
    durability: str  # riverlog.durability: "fsync" | "page-cache"


def nearest(name: str, names: Mapping[str, object]) -> str:
    """`; did you mean …?` where a name is near, else nothing."""
    found = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def check_config(name: str, text: str) -> str:
    """The text to keep. Raises INVALID_CONFIG for an unknown name (naming the nearest) and for a value out of range."""
    if (spec := TOPIC_CONFIGS.get(name)) is None:
        raise RiverlogError(ErrorKind.INVALID_CONFIG, f"unknown topic config {name!r}{nearest(name, TOPIC_CONFIGS)}")
    if spec.impossible and text.strip().lower() == spec.impossible:
        raise RiverlogError(ErrorKind.INVALID_CONFIG, f"{name}={text!r} cannot be had: {spec.documentation}")
    spec.parse(text)
    if len(text) > kept_text_length_max:
        raise RiverlogError(
            ErrorKind.INVALID_CONFIG, f"{name} has at most {kept_text_length_max} characters, not {len(text)}"
        )
    return text.strip()


def topic_defaults(broker_settings: Mapping[str, str]) -> dict[str, str]:
    """What the broker's settings say for topics: topic configuration -> value in its unit. Names that are no synonym
    are left alone. Raises INVALID_CONFIG naming the broker's setting."""
    defaults: dict[str, str] = {}
    for spec in _SPECS:
        for broker_name, factor in spec.broker_names:
            if (text := broker_settings.get(broker_name)) is not None:
                try:
                    defaults[spec.name] = _scaled(spec, text.strip(), factor)
                except RiverlogError as error:
                    raise RiverlogError(error.kind, f"{broker_name}={text!r}: {error.message}") from error
                break
    return defaults


def _scaled(spec: ConfigSpec, text: str, factor: int) -> str:
    """A negative number means "without limit" in every unit."""
    if factor != 1:
        whole = _parse(ConfigType.LONG, text)
        if isinstance(whole, int) and whole > 0:
            text = str(whole * factor)
    spec.parse(text)
    return text


def resolve(overrides: Mapping[str, str], broker_defaults: Mapping[str, str]) -> TopicConfig:
    """The configuration that holds. Raises INVALID_CONFIG for a bad value, and for two that contradict each other.
    An override that this version does not know (written by a newer one) is left out."""

    def value(name: str) -> Any:
        text = overrides.get(name)
        if text is None:
            text = broker_defaults.get(name)
        spec = TOPIC_CONFIGS[name]
        return spec.parse(spec.default if text is None else text)

    policy = value("cleanup.policy")
    config = TopicConfig(
        cleanup_delete="delete" in policy,
        cleanup_compact="compact" in policy,
        compression_type=value("compression.type"),
        compression_gzip_level=value("compression.gzip.level"),
        compression_lz4_level=value("compression.lz4.level"),
        compression_zstd_level=value("compression.zstd.level"),
        delete_retention_ms=value("delete.retention.ms"),
        file_delete_delay_ms=value("file.delete.delay.ms"),
        flush_messages=value("flush.messages"),
        flush_ms=value("flush.ms"),
        index_interval_bytes=value("index.interval.bytes"),
        max_compaction_lag_ms=value("max.compaction.lag.ms"),
        max_message_bytes=value("max.message.bytes"),
        message_timestamp_after_ms_max=value("message.timestamp.after.max.ms"),
        message_timestamp_before_ms_max=value("message.timestamp.before.max.ms"),
        log_append_time=value("message.timestamp.type") == "LogAppendTime",
        min_cleanable_dirty_ratio=value("min.cleanable.dirty.ratio"),
        min_compaction_lag_ms=value("min.compaction.lag.ms"),
        min_insync_replicas=value("min.insync.replicas"),
        preallocate=value("preallocate"),
        retention_bytes=value("retention.bytes"),
        retention_ms=value("retention.ms"),
        segment_bytes=value("segment.bytes"),
        segment_index_bytes=value("segment.index.bytes"),
        segment_jitter_ms=value("segment.jitter.ms"),
        segment_ms=value("segment.ms"),
        durability=value("riverlog.durability"),
    )
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
        raise RiverlogError(
            ErrorKind.INVALID_CONFIG,
            f"min.compaction.lag.ms={config.min_compaction_lag_ms} is above max.compaction.lag.ms="
            f"{config.max_compaction_lag_ms}: raise the second or lower the first",
        )
    return config
