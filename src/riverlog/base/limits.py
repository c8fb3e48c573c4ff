"""Everything that grows has a limit, and the limit has a name. Those that a user may set are settings with these defaults."""

from __future__ import annotations

from typing import Final

from riverlog.base.units import KIB, MIB

batch_decompressed_bytes_max: Final = 128 * MIB  # what one batch may unpack to, wherever we look inside one
request_bytes_max: Final = 100 * MIB  # socket.request.max.bytes
connections_max: Final = 20_000  # max.connections
requests_in_flight_max: Final = 64  # riverlog.connection.requests.in.flight.max
bytes_in_flight_max: Final = 256 * MIB  # queued.max.request.bytes
unsynced_bytes_max: Final = 64 * MIB  # riverlog.unsynced.bytes.max
fetch_bytes_max: Final = 55 * MIB  # fetch.max.bytes
fetch_sessions_max: Final = 1_000  # max.incremental.fetch.session.cache.slots
fetch_session_partitions_max: Final = 200_000  # that all fetch sessions of a broker remember together, about 400 bytes each
receive_buffer_bytes: Final = 256 * KIB
send_buffer_bytes: Final = 256 * KIB  # of a socket: with more of a fetch under way the caches do not hold it (measured)
topic_name_length_max: Final = 249
partitions_per_topic_max: Final = 100_000
partitions_per_request_max: Final = 10_000  # made by one CreateTopics, as in Kafka
group_members_max: Final = 10_000  # group.max.size
kept_text_length_max: Final = 8_000  # characters of a name or a config; an old Kafka answer carries 32,767 bytes
offset_metadata_bytes_max: Final = 4 * KIB  # offset.metadata.max.bytes
producer_batches_remembered: Final = 5  # what Kafka clients may have in flight
