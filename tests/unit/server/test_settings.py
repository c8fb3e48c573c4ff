"""From `server.properties` and overrides to the settings of a server."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from riverlog.broker.settings import BrokerSettings
from riverlog.server.addresses import HostPort
from riverlog.server.settings import (
    BROKER_CHOICES,
    BROKER_FLAGS,
    BROKER_LISTS,
    BROKER_NUMBERS,
    OTHERS,
    STORAGE_NUMBERS,
    ServerSettings,
    SettingsError,
    kafka_names,
    known_names,
    load,
)
from riverlog.storage.local.settings import LocalSettings

# A file as Kafka 4 ships it, shortened, with the addresses of one machine.
KAFKA_FILE = """
# The role of this server.
process.roles=broker,controller
node.id=7
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL
num.network.threads=3
log.dirs=/data/kraft-combined-logs
num.partitions=3
offsets.topic.replication.factor=1
log.retention.hours=168
log.segment.bytes=1073741824
"""


def test_without_anything_the_defaults_hold() -> None:
    assert load(None, {}) == ServerSettings()


def test_a_file_that_was_written_for_kafka_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text(KAFKA_FILE)
    settings = load(file, {})
    assert settings.kafka == settings.advertise == HostPort("localhost", 9092)
    assert settings.data_dir == Path("/data/kraft-combined-logs")
    assert settings.storage.node_id == 7
    assert settings.broker.num_partitions == 3
    assert settings.broker.topic_defaults["retention.ms"] == "604800000"
    assert len(settings.warnings) == 1
    for name in ("process.roles", "controller.quorum.bootstrap.servers", "num.network.threads"):
        assert name in settings.warnings[0]
    assert "num.partitions" not in settings.warnings[0]


def test_overrides_win_over_the_file_also_under_another_name(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("log.retention.ms=1\nlog.dirs=/a\nnum.partitions=3\nnode.id=4")
    settings = load(file, {"log.retention.hours": "2", "log.dir": "/b", "num.partitions": "5", "broker.id": "6"})
    assert settings.broker.topic_defaults["retention.ms"] == str(2 * 3_600_000)
    assert settings.data_dir == Path("/b")
    assert settings.broker.num_partitions == 5
    assert settings.storage.node_id == 6


@pytest.mark.parametrize(
    ("values", "milliseconds"),
    [
        ({"log.retention.hours": "1"}, "3600000"),
        ({"log.retention.hours": "1", "log.retention.minutes": "2"}, "120000"),
        ({"log.retention.hours": "1", "log.retention.minutes": "2", "log.retention.ms": "3"}, "3"),
        ({"log.retention.hours": "-1"}, "-1"),
    ],
)
def test_retention_has_kafkas_precedence(values: dict[str, str], milliseconds: str) -> None:
    assert load(None, values).broker.topic_defaults["retention.ms"] == milliseconds


def test_units_are_brought_to_those_of_the_fields() -> None:
    assert load(None, {"offsets.retention.minutes": "2"}).broker.offsets_retention_ms == 120_000


def test_no_limit_is_brought_to_one() -> None:
    settings = load(None, {"queued.max.request.bytes": "-1", "connections.max.idle.ms": "-1"}).broker
    assert settings.bytes_in_flight_max == BrokerSettings().bytes_in_flight_max
    assert settings.connections_idle_ms_max > 0


def test_the_cleaners_settings() -> None:
    names = {
        "log.cleaner.enable": "false",
        "log.cleaner.threads": "2",
        "log.cleaner.dedupe.buffer.size": "1048576",
        "log.cleaner.io.max.bytes.per.second": "1.5E6",
        "log.cleaner.backoff.ms": "0",
    }
    storage = load(None, names).storage
    assert (storage.cleaner_enable, storage.cleaner_threads, storage.cleaner_dedupe_bytes_max) == (False, 2, 1048576)
    assert (storage.cleaner_io_bytes_per_second_max, storage.cleaner_backoff_ms) == (1.5e6, 0)
    unlimited = load(None, {"log.cleaner.io.max.bytes.per.second": "1.7976931348623157E308"}).storage
    assert unlimited.cleaner_io_bytes_per_second_max > 1e300
    for text in ("0", "-1", "nan", "fast"):
        with pytest.raises(SettingsError, match="a number above 0"):
            load(None, {"log.cleaner.io.max.bytes.per.second": text})


def test_a_setting_may_reach_broker_and_engine() -> None:
    settings = load(None, {"producer.id.expiration.ms": "5000", "riverlog.durability": "page-cache"})
    assert settings.broker.producer_id_expiration_ms == settings.storage.producer_id_expiration_ms == 5000
    assert settings.broker.topic_defaults == {"riverlog.durability": "page-cache"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num.partition", "3", "did you mean 'num.partitions'"),
        ("riverlog.durabilty", "fsync", "did you mean 'riverlog.durability'"),
        ("retention.ms", "3", "did you mean 'log.retention.ms'"),
        ("num.partitions", "0", "whole number from 1"),
        ("num.partitions", "three", "whole number from 1"),
        ("num.partitions", "", "whole number from 1"),
        ("num.partitions", "99999999999999999999999", "whole number from 1"),
        ("auto.create.topics.enable", "yes", "true or false"),
        ("log.retention.hours", "soon", "log.retention.hours"),
        ("compression.type", "brotli", "^setting compression.type='brotli' is not allowed"),
        ("num.partitions", "100001", "whole number from 1 to 100000"),
        ("listeners", "SSL://127.0.0.1:9092", "not built yet"),
        ("listeners", "127.0.0.1:9092", "PLAINTEXT://HOST:PORT"),
        ("advertised.listeners", "PLAINTEXT://:9092", "no client can connect to 0.0.0.0:9092"),
        ("log.dirs", "/a,/b", "one"),
        ("riverlog.http.listener", "9080", "HOST:PORT"),
        ("group.min.session.timeout.ms", "1800001", "above"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_do(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load(None, {name: value})
    assert "\n" not in caught.value.message
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["listeners", "riverlog.http.listener"])
def test_only_who_says_so_listens_to_the_network(name: str) -> None:
    value = "PLAINTEXT://0.0.0.0:9092" if name == "listeners" else "0.0.0.0:9080"
    with pytest.raises(SettingsError, match="--insecure"):
        load(None, {name: value})
    assert load(None, {name: value, "riverlog.insecure": "true"}).insecure


def test_security_that_is_ignored_is_said() -> None:
    (warning,) = load(None, {"authorizer.class.name": "x", "listener.name.a.ssl.key.password": "y"}).warnings
    assert "access is not restricted" in warning


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the settings file .*: No such file"):
        load(tmp_path / "none", {})
    (tmp_path / "bad").write_text("a=1\nb=\\uzzzz")
    with pytest.raises(SettingsError, match="bad, line 2"):
        load(tmp_path / "bad", {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        load(tmp_path / "binary", {})


def test_names_are_kafkas_or_begin_with_riverlog() -> None:
    kafka = kafka_names()
    assert [name for name in known_names() if not name.startswith("riverlog.") and name not in kafka] == []


def test_every_field_that_a_setting_fills_is_there_and_every_field_of_the_broker_has_its_setting() -> None:
    broker = {one.name for one in fields(BrokerSettings)}
    filled = {numeric.field for numeric in BROKER_NUMBERS.values()} | set(BROKER_FLAGS.values())
    filled |= {*BROKER_LISTS.values(), *BROKER_CHOICES.values()}
    assert filled == broker - {"topic_defaults"}
    assert {numeric.field for numeric in STORAGE_NUMBERS.values()} <= {one.name for one in fields(LocalSettings)}


def test_the_guide_names_every_setting() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "guide" / "settings.md").read_text(encoding="utf-8")
    names = {*BROKER_NUMBERS, *BROKER_LISTS, *BROKER_CHOICES, *BROKER_FLAGS, *STORAGE_NUMBERS, *OTHERS}
    assert [name for name in names if f"`{name}`" not in guide] == []


def test_consumer_groups_have_bounds_that_hold_their_defaults() -> None:
    broker = load(None, {"group.consumer.min.session.timeout.ms": "500", "group.consumer.session.timeout.ms": "2000",
                         "group.consumer.min.heartbeat.interval.ms": "100",
                         "group.consumer.heartbeat.interval.ms": "1000"}).broker  # fmt: skip
    assert (broker.group_consumer_session_timeout_ms, broker.group_consumer_session_timeout_ms_min) == (2000, 500)
    assert broker.group_consumer_heartbeat_interval_ms == 1000
    with pytest.raises(SettingsError, match=r"group\.consumer\.max\.session\.timeout\.ms=60000: change one"):
        load(None, {"group.consumer.session.timeout.ms": "60001"})
    with pytest.raises(SettingsError, match="must be less than"):
        load(None, {"group.consumer.min.session.timeout.ms": "500", "group.consumer.session.timeout.ms": "5000"})


def test_assignors_and_the_policy_of_migration() -> None:
    of_kafka = "org.apache.kafka.coordinator.group.assignor.RangeAssignor, uniform"
    broker = load(None, {"group.consumer.assignors": of_kafka, "group.consumer.migration.policy": "UPGRADE"}).broker
    assert broker.group_consumer_assignors == ("range", "uniform")
    assert broker.group_consumer_migration_policy == "upgrade"
    for name, text in (
        ("group.consumer.assignors", "range,range"),
        ("group.consumer.assignors", "com.example.Mine"),
        ("group.consumer.assignors", ""),
        ("group.consumer.migration.policy", "sideways"),
    ):
        with pytest.raises(SettingsError, match=name):
            load(None, {name: text})
