"""What a user may tune of the broker, as a value. `server/settings.py` makes it from Kafka's names (the comments)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from riverlog.base import limits
from riverlog.base.units import DAY_MS, INT32_MAX, MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    num_partitions: int = 1  # num.partitions
    auto_create_topics: bool = True  # auto.create.topics.enable
    delete_topics: bool = True  # delete.topic.enable
    strict_replication: bool = False  # riverlog.strict.replication
    default_replication_factor: int = 1  # default.replication.factor
    topic_defaults: Mapping[str, str] = field(default_factory=dict)  # topic config name -> value, from log.* and the like
    message_bytes_max: int = 1_048_588  # message.max.bytes
    request_bytes_max: int = limits.request_bytes_max  # socket.request.max.bytes
    fetch_bytes_max: int = limits.fetch_bytes_max  # fetch.max.bytes
    fetch_sessions_max: int = limits.fetch_sessions_max  # max.incremental.fetch.session.cache.slots
    group_initial_rebalance_delay_ms: int = 0  # group.initial.rebalance.delay.ms
    group_session_timeout_ms_min: int = 6_000  # group.min.session.timeout.ms
    group_session_timeout_ms_max: int = 1_800_000  # group.max.session.timeout.ms
    group_members_max: int = limits.group_members_max  # group.max.size
    group_consumer_session_timeout_ms: int = 45_000  # group.consumer.session.timeout.ms
    group_consumer_session_timeout_ms_min: int = 45_000  # group.consumer.min.session.timeout.ms
    group_consumer_session_timeout_ms_max: int = 60_000  # group.consumer.max.session.timeout.ms
    group_consumer_heartbeat_interval_ms: int = 5_000  # group.consumer.heartbeat.interval.ms
    group_consumer_heartbeat_interval_ms_min: int = 5_000  # group.consumer.min.heartbeat.interval.ms
    group_consumer_heartbeat_interval_ms_max: int = 15_000  # group.consumer.max.heartbeat.interval.ms
    group_consumer_assignment_interval_ms: int = 1_000  # group.consumer.assignment.interval.ms
    group_consumer_assignment_interval_ms_min: int = 0  # group.consumer.min.assignment.interval.ms
    group_consumer_assignment_interval_ms_max: int = 15_000  # group.consumer.max.assignment.interval.ms
    group_consumer_members_max: int = limits.group_members_max  # group.consumer.max.size
    group_consumer_assignors: tuple[str, ...] = ("uniform", "range")  # group.consumer.assignors
    group_consumer_migration_policy: str = "bidirectional"  # group.consumer.migration.policy
    offset_metadata_bytes_max: int = limits.offset_metadata_bytes_max  # offset.metadata.max.bytes
    offsets_retention_ms: int = 7 * DAY_MS  # offsets.retention.minutes
    offsets_retention_check_interval_ms: int = 600_000  # offsets.retention.check.interval.ms
    producer_id_expiration_ms: int = DAY_MS  # producer.id.expiration.ms
    transaction_timeout_ms_max: int = 15 * MINUTE_MS  # transaction.max.timeout.ms
    transactional_id_expiration_ms: int = 7 * DAY_MS  # transactional.id.expiration.ms
    connections_max: int = limits.connections_max  # max.connections
    connections_per_ip_max: int = INT32_MAX  # max.connections.per.ip
    connections_idle_ms_max: int = 600_000  # connections.max.idle.ms
    requests_in_flight_max: int = limits.requests_in_flight_max  # riverlog.connection.requests.in.flight.max
    bytes_in_flight_max: int = limits.bytes_in_flight_max  # queued.max.request.bytes
