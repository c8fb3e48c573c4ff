"""What a user may set of a server: from a file in `server.properties` form and from `key=value` overrides to one value.

Settings have Kafka's names and units where Kafka has them; every other one begins with `riverlog.`. Invariant: `load`
gives a `ServerSettings` that can be served, or raises `SettingsError`, whose message names the setting and what to do.
Not here: the configurations of topics (`state/topic_configs.py`), which broker settings give only their defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.limits import partitions_per_topic_max
from riverlog.base.units import DAY_MS, INT32_MAX, INT64_MAX, MIB, MINUTE_MS
from riverlog.broker.settings import BrokerSettings
from riverlog.server.addresses import HostPort, is_loopback, parse_host_port, parse_listeners
from riverlog.server.properties import MalformedProperties, parse
from riverlog.state.topic_configs import BROKER_SYNONYMS, TOPIC_CONFIGS, topic_defaults
from riverlog.storage.local.settings import LocalSettings

DEFAULT_DATA_DIR: Final = Path("riverlog-data")
DEFAULT_KAFKA: Final = HostPort("127.0.0.1", 9092)
DEFAULT_HTTP: Final = HostPort("127.0.0.1", 9080)


class SettingsError(RiverlogError):
    """A server cannot run with these settings. The message is one line and says what to change."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.INVALID_CONFIG, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Everything that one server is told. Port 0 picks a free one; `warnings` are whole lines for the log."""

    data_dir: Path = DEFAULT_DATA_DIR  # log.dirs, log.dir
    kafka: HostPort = DEFAULT_KAFKA  # listeners
    advertise: HostPort | None = None  # advertised.listeners; None: the address that the client came in by
    http: HostPort = DEFAULT_HTTP  # riverlog.http.listener
    insecure: bool = False  # riverlog.insecure
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    storage: LocalSettings = field(default_factory=LocalSettings)
    warnings: tuple[str, ...] = ()


class Numeric(NamedTuple):
    """A whole number. `factor` turns the setting's unit into the field's; `instead` replaces -1 ("no limit")."""

    field: str
    low: int
    high: int = INT32_MAX
    factor: int = 1
    instead: int | None = None


BROKER_NUMBERS: Final[Mapping[str, Numeric]] = {
    "num.partitions": Numeric("num_partitions", 1, partitions_per_topic_max),
    "default.replication.factor": Numeric("default_replication_factor", 1, 2**15 - 1),
    "message.max.bytes": Numeric("message_bytes_max", 0),
    "socket.request.max.bytes": Numeric("request_bytes_max", 1024),
    "fetch.max.bytes": Numeric("fetch_bytes_max", 1024),
    "max.incremental.fetch.session.cache.slots": Numeric("fetch_sessions_max", 0),
    "group.initial.rebalance.delay.ms": Numeric("group_initial_rebalance_delay_ms", 0),
    "group.min.session.timeout.ms": Numeric("group_session_timeout_ms_min", 1),
    "group.max.session.timeout.ms": Numeric("group_session_timeout_ms_max", 1),
    "group.max.size": Numeric("group_members_max", 1),
    "group.consumer.session.timeout.ms": Numeric("group_consumer_session_timeout_ms", 1),
    "group.consumer.min.session.timeout.ms": Numeric("group_consumer_session_timeout_ms_min", 1),
    "group.consumer.max.session.timeout.ms": Numeric("group_consumer_session_timeout_ms_max", 1),
    "group.consumer.heartbeat.interval.ms": Numeric("group_consumer_heartbeat_interval_ms", 1),
    "group.consumer.min.heartbeat.interval.ms": Numeric("group_consumer_heartbeat_interval_ms_min", 1),
    "group.consumer.max.heartbeat.interval.ms": Numeric("group_consumer_heartbeat_interval_ms_max", 1),
    "group.consumer.assignment.interval.ms": Numeric("group_consumer_assignment_interval_ms", 0),
    "group.consumer.min.assignment.interval.ms": Numeric("group_consumer_assignment_interval_ms_min", 0),
    "group.consumer.max.assignment.interval.ms": Numeric("group_consumer_assignment_interval_ms_max", 0),
    "group.consumer.max.size": Numeric("group_consumer_members_max", 1),
    "offset.metadata.max.bytes": Numeric("offset_metadata_bytes_max", 0),
    "offsets.retention.minutes": Numeric("offsets_retention_ms", 1, factor=MINUTE_MS),
    "offsets.retention.check.interval.ms": Numeric("offsets_retention_check_interval_ms", 1, INT64_MAX),
    "producer.id.expiration.ms": Numeric("producer_id_expiration_ms", 1),
    "transaction.max.timeout.ms": Numeric("transaction_timeout_ms_max", 1),
    "transactional.id.expiration.ms": Numeric("transactional_id_expiration_ms", 1),
    "max.connections": Numeric("connections_max", 1),
    "max.connections.per.ip": Numeric("connections_per_ip_max", 0),
    "connections.max.idle.ms": Numeric("connections_idle_ms_max", 1, INT64_MAX, instead=3650 * DAY_MS),
    "riverlog.connection.requests.in.flight.max": Numeric("requests_in_flight_max", 1),
    "queued.max.request.bytes": Numeric(
        "bytes_in_flight_max", 1, INT64_MAX, instead=BrokerSettings().bytes_in_flight_max
    ),
}
BROKER_FLAGS: Final[Mapping[str, str]] = {
    "auto.create.topics.enable": "auto_create_topics",
    "delete.topic.enable": "delete_topics",
    "riverlog.strict.replication": "strict_replication",
}
BROKER_LISTS: Final[Mapping[str, str]] = {"group.consumer.assignors": "group_consumer_assignors"}
BROKER_CHOICES: Final[Mapping[str, str]] = {"group.consumer.migration.policy": "group_consumer_migration_policy"}
_ASSIGNORS: Final = {"org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
                     "org.apache.kafka.coordinator.group.assignor.RangeAssignor": "range"}  # fmt: skip
_MIGRATION_POLICIES: Final = ("bidirectional", "upgrade", "downgrade", "disabled")
STORAGE_NUMBERS: Final[Mapping[str, Numeric]] = {
    "broker.id": Numeric("node_id", 0),
    "node.id": Numeric("node_id", 0),
    "log.cleaner.backoff.ms": Numeric("cleaner_backoff_ms", 0, INT64_MAX),
    "log.cleaner.dedupe.buffer.size": Numeric("cleaner_dedupe_bytes_max", MIB, INT64_MAX),
    "log.cleaner.threads": Numeric("cleaner_threads", 0, 256),
    "log.retention.check.interval.ms": Numeric("retention_check_interval_ms", 1, INT64_MAX),
    "producer.id.expiration.ms": Numeric("producer_id_expiration_ms", 1),
    "riverlog.catchup.bytes.per.second": Numeric("catchup_bytes_per_second", 0, INT64_MAX),
    "riverlog.catchup.threads": Numeric("catchup_threads", 1, 256),
    "riverlog.checkpoint.interval.ms": Numeric("checkpoint_interval_ms", 1),
    "riverlog.open.files.max": Numeric("open_files_max", 0),
    "riverlog.journal.bytes.max": Numeric("journal_bytes_max", 0, INT64_MAX),
    "riverlog.read.threads": Numeric("read_threads", 1, 256),
    "riverlog.scrub.bytes.per.second": Numeric("scrub_bytes_per_second", 0, INT64_MAX),
    "riverlog.sync.threads": Numeric("sync_threads", 1, 256),
    "riverlog.unsynced.bytes.max": Numeric("unsynced_bytes_max", MIB, INT64_MAX),
}
STORAGE_FLAGS: Final[Mapping[str, str]] = {"log.cleaner.enable": "cleaner_enable"}
STORAGE_RATES: Final[Mapping[str, str]] = {"log.cleaner.io.max.bytes.per.second": "cleaner_io_bytes_per_second_max"}
OTHERS: Final = (
    "listeners",
    "advertised.listeners",
    "controller.listener.names",
    "listener.security.protocol.map",
    "log.dirs",
    "log.dir",
    "riverlog.http.listener",
    "riverlog.insecure",
    "riverlog.cluster.id",
)


def load(file: Path | str | None, overrides: Mapping[str, str]) -> ServerSettings:
    """The settings of `file` (None: none) with `overrides` over them. Raises SettingsError."""
    values = _merged({} if file is None else read(Path(file)), overrides)
    ignored = _ignored(values)
    http = values.get("riverlog.http.listener")
    settings = ServerSettings(
        data_dir=_data_dir(values),
        kafka=_listener(values, "listeners") or DEFAULT_KAFKA,
        advertise=_advertised(values),
        http=DEFAULT_HTTP if http is None else _told("riverlog.http.listener", parse_host_port, http),
        insecure=_flag("riverlog.insecure", values.get("riverlog.insecure", "false")),
        broker=_broker(values),
        storage=_storage(values),
        warnings=(_warning(ignored),) if ignored else (),
    )
    _check_loopback(settings)
    return settings


def read(path: Path) -> dict[str, str]:
    """The entries of a `server.properties` file; of a name that comes twice the last. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SettingsError(f"cannot read the settings file {path}: {reason}") from error
    try:
        return {entry.name: entry.value.strip() for entry in parse(text)}
    except MalformedProperties as error:
        raise SettingsError(f"{path}, line {error.line}: {error.what}") from error


def known_names() -> frozenset[str]:
    """Every setting that means something here."""
    of_storage = {*STORAGE_NUMBERS, *STORAGE_FLAGS, *STORAGE_RATES}
    of_groups = {*BROKER_LISTS, *BROKER_CHOICES}
    return frozenset({*BROKER_NUMBERS, *BROKER_FLAGS, *of_groups, *of_storage, *OTHERS, *BROKER_SYNONYMS})


def kafka_names() -> Mapping[str, str]:
    """Kafka's broker settings (4.3 and those that earlier ones had) -> what they are about."""
    lines = (Path(__file__).parent / "kafka_settings.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return dict(line.partition("\t")[::2] for line in lines)


def _merged(of_file: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Names of which one stands for all: an override of any of them puts aside what the file says under the others."""
    of_topics = (tuple(name for name, _ in spec.broker_names) for spec in TOPIC_CONFIGS.values())
    stand_ins = (("log.dirs", "log.dir"), ("node.id", "broker.id"), *of_topics)
    aside = {name for names in stand_ins if any(one in overrides for one in names) for name in names}
    return {name: value for name, value in of_file.items() if name not in aside} | {
        name: value.strip() for name, value in overrides.items()
    }


def _ignored(values: Mapping[str, str]) -> list[str]:
    """Kafka's names without a meaning here. Raises SettingsError for a name that nobody knows."""
    known = known_names()
    if not (others := [name for name in values if name not in known]):
        return []
    kafka = kafka_names()
    for name in others:
        if name not in kafka and not name.startswith(("listener.name.", "rsm.config.", "rlmm.config.")):
            raise SettingsError(_unknown(name, [*known, *kafka]))
    return sorted(others)


def _unknown(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # slow to import, and needed for this line only

    near = get_close_matches(name, sorted(names), n=1, cutoff=0.0)
    spec = TOPIC_CONFIGS.get(name)
    if spec is not None and spec.broker_names:
        near = [spec.broker_names[0][0]]
    return f"unknown setting {name!r}: did you mean {near[0]!r}? Remove it or correct its name"


def _warning(ignored: list[str]) -> str:
    kafka = kafka_names()
    secure = [name for name in ignored if kafka.get(name) == "security" or name.startswith("listener.name.")]
    also = "; access is not restricted by any of them" if secure else ""
    return f"settings of Kafka that mean nothing here and are ignored{also}: {', '.join(ignored)}"


def _broker(values: Mapping[str, str]) -> BrokerSettings:
    fields: dict[str, Any] = _numbers(values, BROKER_NUMBERS)
    fields |= {BROKER_FLAGS[name]: _flag(name, text) for name, text in values.items() if name in BROKER_FLAGS}
    fields |= {BROKER_LISTS[name]: _assignors(name, text) for name, text in values.items() if name in BROKER_LISTS}
    fields |= {BROKER_CHOICES[name]: _policy(name, text) for name, text in values.items() if name in BROKER_CHOICES}
    broker = BrokerSettings(topic_defaults=_topic_defaults(values), **fields)
    _check_consumer_groups(broker)
    if broker.group_session_timeout_ms_min > broker.group_session_timeout_ms_max:
        raise SettingsError(
            f"group.min.session.timeout.ms={broker.group_session_timeout_ms_min} is above "
            f"group.max.session.timeout.ms={broker.group_session_timeout_ms_max}: lower the first or raise the second"
        )
    return broker


def _assignors(name: str, text: str) -> tuple[str, ...]:
    """By their names, or by those of Kafka's classes."""
    assignors = tuple(_ASSIGNORS.get(one.strip(), one.strip()) for one in text.split(","))
    if not set(assignors) <= set(_ASSIGNORS.values()) or len(set(assignors)) < len(assignors):
        raise SettingsError(f"setting {name}={text!r} is not allowed: name uniform, range or both, each once")
    return assignors


def _policy(name: str, text: str) -> str:
    if text.lower() not in _MIGRATION_POLICIES:
        raise SettingsError(f"setting {name}={text!r} is not allowed: give one of {', '.join(_MIGRATION_POLICIES)}")
    return text.lower()


def _check_consumer_groups(broker: BrokerSettings) -> None:
    for what in ("session.timeout", "heartbeat.interval", "assignment.interval"):
        field = f"group_consumer_{what.replace('.', '_')}_ms"
        default, low, high = (getattr(broker, name) for name in (field, f"{field}_min", f"{field}_max"))
        if not low <= default <= high:
            raise SettingsError(
                f"group.consumer.{what}.ms={default} is not between group.consumer.min.{what}.ms={low} and "
                f"group.consumer.max.{what}.ms={high}: change one of them"
            )
    session_ms, heartbeat_ms = broker.group_consumer_session_timeout_ms, broker.group_consumer_heartbeat_interval_ms
    if heartbeat_ms >= session_ms:
        raise SettingsError(
            f"group.consumer.heartbeat.interval.ms={heartbeat_ms} must be less than "
            f"group.consumer.session.timeout.ms={session_ms}: lower the first"
        )


def _topic_defaults(values: Mapping[str, str]) -> dict[str, str]:
    try:
        return topic_defaults(values)
    except RiverlogError as error:
        named, _, what = error.message.partition(": ")
        said = what if what.startswith(named) else error.message  # where topic and broker call it the same
        raise SettingsError(f"setting {said}") from error


def _storage(values: Mapping[str, str]) -> LocalSettings:
    fields: dict[str, Any] = _numbers(values, STORAGE_NUMBERS)
    fields |= {STORAGE_FLAGS[name]: _flag(name, text) for name, text in values.items() if name in STORAGE_FLAGS}
    fields |= {STORAGE_RATES[name]: _rate(name, text) for name, text in values.items() if name in STORAGE_RATES}
    return LocalSettings(cluster_id=values.get("riverlog.cluster.id", ""), **fields)


def _numbers(values: Mapping[str, str], table: Mapping[str, Numeric]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name, numeric in table.items():
        if (text := values.get(name)) is None:
            continue
        if numeric.instead is not None and text == "-1":
            numbers[numeric.field] = numeric.instead
        else:
            numbers[numeric.field] = _whole(name, text, numeric.low, numeric.high) * numeric.factor
    return numbers


def _whole(name: str, text: str, low: int, high: int) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20 and low <= int(text) <= high):
        raise SettingsError(f"setting {name}={text!r} is not allowed: give a whole number from {low} to {high}")
    return int(text)


def _rate(name: str, text: str) -> float:
    """A number above 0, perhaps with a fraction and an exponent, as Kafka's doubles."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not rate > 0:
        raise SettingsError(f"setting {name}={text!r} is not allowed: give a number above 0")
    return rate


def _flag(name: str, text: str) -> bool:
    if (value := {"true": True, "false": False}.get(text.lower())) is None:
        raise SettingsError(f"setting {name}={text!r} is not allowed: give true or false")
    return value


def _data_dir(values: Mapping[str, str]) -> Path:
    """Kafka's `log.dirs`, else `log.dir`; one directory."""
    name = "log.dirs" if values.get("log.dirs") else "log.dir"
    text = values.get(name)
    if not text:
        return DEFAULT_DATA_DIR
    if "," in text:
        raise SettingsError(
            f"setting {name}={text!r} names several directories: riverlog keeps everything in one, name only that"
        )
    return Path(text)


def _listener(values: Mapping[str, str], name: str) -> HostPort | None:
    text = values.get(name)
    if not text:
        return None
    controllers = [one.strip() for one in values.get("controller.listener.names", "").split(",")]
    protocols = values.get("listener.security.protocol.map", "")
    return _told(name, partial(parse_listeners, controllers=controllers, protocols=protocols), text)


def _advertised(values: Mapping[str, str]) -> HostPort | None:
    """Somewhere that a client can connect to; port 0 is the one that it came in by."""
    address = _listener(values, "advertised.listeners")
    if address is not None and address.host in ("0.0.0.0", "::"):
        raise SettingsError(
            f"no client can connect to {address.text}, which advertised.listeners (--advertise) would tell it: name the "
            "host that clients use, or leave it out, then each is told the address that it came in by"
        )
    return address


def _told(name: str, parser: Callable[[str], HostPort], text: str) -> HostPort:
    try:
        return parser(text)
    except ValueError as error:
        raise SettingsError(f"setting {name}={text!r} is not allowed: {error}") from error


def _check_loopback(settings: ServerSettings) -> None:
    """Until TLS and SASL are there, nobody listens to the world without having said so."""
    for what, address in (("Kafka", settings.kafka), ("HTTP", settings.http)):
        if not settings.insecure and not is_loopback(address.host):
            raise SettingsError(
                f"{what} would listen on {address.text}, where everybody on the network may read and write everything: "
                "add --insecure (or riverlog.insecure=true) if that is meant, or listen on 127.0.0.1"
            )
