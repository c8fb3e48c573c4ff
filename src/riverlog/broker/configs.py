"""What DescribeConfigs tells: each configuration with its value, where the value comes from, and what it would fall
back to.

Invariant: the first of an entry's synonyms is the value that holds. Not here: changing anything (`broker/topics.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from riverlog.base.units import MINUTE_MS
from riverlog.broker.settings import BrokerSettings
from riverlog.state.topic_configs import TOPIC_CONFIGS, ConfigSpec, ConfigType


class ConfigSource(IntEnum):
    """As the Kafka protocol numbers them."""

    DYNAMIC_TOPIC = 1
    STATIC_BROKER = 4
    DEFAULT = 5
    GROUP = 8


class Synonym(NamedTuple):
    """One place that a value may come from."""

    name: str
    value: str
    source: ConfigSource


class ConfigEntry(NamedTuple):
    name: str
    value: str
    source: ConfigSource
    type: ConfigType
    read_only: bool
    synonyms: Sequence[Synonym]
    documentation: str


class _Setting(NamedTuple):
    """A setting of the broker: Kafka's name (or ours), its type, how to read it."""

    name: str
    type: ConfigType
    value: Callable[[BrokerSettings], int | bool | str]


_INT, _LONG, _BOOLEAN = ConfigType.INT, ConfigType.LONG, ConfigType.BOOLEAN
_STRING, _LIST = ConfigType.STRING, ConfigType.LIST

_SETTINGS: Final = (
    _Setting("auto.create.topics.enable", _BOOLEAN, lambda s: s.auto_create_topics),
    _Setting("connections.max.idle.ms", _LONG, lambda s: s.connections_idle_ms_max),
    _Setting("default.replication.factor", _INT, lambda s: s.default_replication_factor),
    _Setting("delete.topic.enable", _BOOLEAN, lambda s: s.delete_topics),
    _Setting("fetch.max.bytes", _INT, lambda s: s.fetch_bytes_max),
    _Setting("group.consumer.assignment.interval.ms", _INT, lambda s: s.group_consumer_assignment_interval_ms),
    _Setting("group.consumer.assignors", _LIST, lambda s: ",".join(s.group_consumer_assignors)),
    _Setting("group.consumer.heartbeat.interval.ms", _INT, lambda s: s.group_consumer_heartbeat_interval_ms),
    _Setting("group.consumer.max.assignment.interval.ms", _INT, lambda s: s.group_consumer_assignment_interval_ms_max),
    _Setting("group.consumer.max.heartbeat.interval.ms", _INT, lambda s: s.group_consumer_heartbeat_interval_ms_max),
    _Setting("group.consumer.max.session.timeout.ms", _INT, lambda s: s.group_consumer_session_timeout_ms_max),
    _Setting("group.consumer.max.size", _INT, lambda s: s.group_consumer_members_max),
    _Setting("group.consumer.migration.policy", _STRING, lambda s: s.group_consumer_migration_policy),
    _Setting("group.consumer.min.assignment.interval.ms", _INT, lambda s: s.group_consumer_assignment_interval_ms_min),
    _Setting("group.consumer.min.heartbeat.interval.ms", _INT, lambda s: s.group_consumer_heartbeat_interval_ms_min),
    _Setting("group.consumer.min.session.timeout.ms", _INT, lambda s: s.group_consumer_session_timeout_ms_min),
    _Setting("group.consumer.session.timeout.ms", _INT, lambda s: s.group_consumer_session_timeout_ms),
    _Setting("group.initial.rebalance.delay.ms", _INT, lambda s: s.group_initial_rebalance_delay_ms),
    _Setting("group.max.session.timeout.ms", _INT, lambda s: s.group_session_timeout_ms_max),
    _Setting("group.max.size", _INT, lambda s: s.group_members_max),
    _Setting("group.min.session.timeout.ms", _INT, lambda s: s.group_session_timeout_ms_min),
    _Setting("max.connections", _INT, lambda s: s.connections_max),
    _Setting("max.connections.per.ip", _INT, lambda s: s.connections_per_ip_max),
    _Setting("max.incremental.fetch.session.cache.slots", _INT, lambda s: s.fetch_sessions_max),
    _Setting("num.partitions", _INT, lambda s: s.num_partitions),
    _Setting("offset.metadata.max.bytes", _INT, lambda s: s.offset_metadata_bytes_max),
    _Setting("offsets.retention.check.interval.ms", _LONG, lambda s: s.offsets_retention_check_interval_ms),
    _Setting("offsets.retention.minutes", _INT, lambda s: s.offsets_retention_ms // MINUTE_MS),
    _Setting("producer.id.expiration.ms", _INT, lambda s: s.producer_id_expiration_ms),
    _Setting("queued.max.request.bytes", _LONG, lambda s: s.bytes_in_flight_max),
    _Setting("riverlog.connection.requests.in.flight.max", _INT, lambda s: s.requests_in_flight_max),
    _Setting("riverlog.strict.replication", _BOOLEAN, lambda s: s.strict_replication),
    _Setting("socket.request.max.bytes", _INT, lambda s: s.request_bytes_max),
)
_DEFAULTS: Final = BrokerSettings()


def topic_defaults_of(settings: BrokerSettings) -> dict[str, str]:
    """Topic configuration -> the value that the broker's settings give it; what they do not say is left out."""
    defaults = dict(settings.topic_defaults)
    if settings.message_bytes_max != _DEFAULTS.message_bytes_max:
        defaults.setdefault("max.message.bytes", str(settings.message_bytes_max))
    return defaults


def topic_entries(
    overrides: Mapping[str, str], settings: BrokerSettings, keys: Collection[str] | None
) -> Sequence[ConfigEntry]:
    """A topic's configurations in order of names, all or those of `keys`."""
    defaults = topic_defaults_of(settings)
    return [
        _topic_entry(spec, overrides.get(spec.name), defaults.get(spec.name))
        for spec in TOPIC_CONFIGS.values()
        if keys is None or spec.name in keys
    ]


def _topic_entry(spec: ConfigSpec, override: str | None, of_broker: str | None) -> ConfigEntry:
    broker_name = spec.broker_names[0][0] if spec.broker_names else spec.name
    synonyms = []
    if override is not None:
        synonyms.append(Synonym(spec.name, override, ConfigSource.DYNAMIC_TOPIC))
    if of_broker is not None:
        synonyms.append(Synonym(broker_name, of_broker, ConfigSource.STATIC_BROKER))
    synonyms.append(Synonym(broker_name, spec.default, ConfigSource.DEFAULT))
    _, value, source = synonyms[0]
    documentation = spec.documentation if spec.obeyed else f"{spec.documentation} (Kept and shown; nothing acts on it.)"
    return ConfigEntry(spec.name, value, source, spec.type, False, synonyms, documentation)


def broker_entries(settings: BrokerSettings, keys: Collection[str] | None) -> Sequence[ConfigEntry]:
    """The broker's settings in order of names, those that give topics their defaults among them. All need a restart."""
    entries = [_broker_entry(setting, settings) for setting in _SETTINGS]
    defaults = topic_defaults_of(settings)
    for spec in TOPIC_CONFIGS.values():
        if spec.broker_names:
            entry = _topic_entry(spec, None, defaults.get(spec.name))
            entries.append(entry._replace(name=spec.broker_names[0][0], read_only=True))
    return sorted(entry for entry in entries if keys is None or entry.name in keys)


def _broker_entry(setting: _Setting, settings: BrokerSettings) -> ConfigEntry:
    value, default = str(setting.value(settings)).lower(), str(setting.value(_DEFAULTS)).lower()
    synonyms = [Synonym(setting.name, default, ConfigSource.DEFAULT)]
    if value != default:
        synonyms.insert(0, Synonym(setting.name, value, ConfigSource.STATIC_BROKER))
    return ConfigEntry(setting.name, value, synonyms[0].source, setting.type, True, synonyms, "")
