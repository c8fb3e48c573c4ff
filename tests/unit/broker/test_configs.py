"""Where each configuration's value comes from."""

from __future__ import annotations

from riverlog.broker.configs import ConfigSource, broker_entries, topic_defaults_of, topic_entries
from riverlog.broker.settings import BrokerSettings
from riverlog.state.topic_configs import TOPIC_CONFIGS, resolve


def test_the_first_synonym_is_the_value_that_holds() -> None:
    settings = BrokerSettings(topic_defaults={"retention.ms": "2", "cleanup.policy": "compact"})
    for entry in [*topic_entries({"retention.ms": "1"}, settings, None), *broker_entries(settings, None)]:
        assert (entry.value, entry.source) == (entry.synonyms[0].value, entry.synonyms[0].source)
        assert [one.source for one in entry.synonyms] == sorted(one.source for one in entry.synonyms)
        assert entry.synonyms[-1].source is ConfigSource.DEFAULT


def test_every_topic_config_is_told_and_one_that_is_not_obeyed_says_so() -> None:
    entries = {entry.name: entry for entry in topic_entries({}, BrokerSettings(), None)}
    assert list(entries) == list(TOPIC_CONFIGS)
    for name, spec in TOPIC_CONFIGS.items():
        assert ("nothing acts on it" in entries[name].documentation) == (not spec.obeyed)


def test_the_brokers_message_size_is_the_topics_default() -> None:
    assert topic_defaults_of(BrokerSettings()) == {}
    settings = BrokerSettings(message_bytes_max=5)
    assert topic_defaults_of(settings) == {"max.message.bytes": "5"}
    assert resolve({}, topic_defaults_of(settings)).max_message_bytes == 5
    (entry,) = topic_entries({}, settings, ["max.message.bytes"])
    assert (entry.value, entry.source) == ("5", ConfigSource.STATIC_BROKER)
    both = BrokerSettings(message_bytes_max=5, topic_defaults={"max.message.bytes": "5"})
    assert topic_defaults_of(both) == {"max.message.bytes": "5"}


def test_broker_settings_are_read_only_and_named_as_in_the_settings_file() -> None:
    entries = {entry.name: entry for entry in broker_entries(BrokerSettings(offsets_retention_ms=120_000), None)}
    assert all(entry.read_only for entry in entries.values())
    assert (entries["offsets.retention.minutes"].value, entries["offsets.retention.minutes"].source) == (
        "2",
        ConfigSource.STATIC_BROKER,
    )
    assert {"log.retention.ms", "message.max.bytes", "num.partitions", "compression.type"} <= set(entries)
    assert "retention.ms" not in entries
    (entry,) = broker_entries(BrokerSettings(), ["num.partitions", "none"])
    assert (entry.name, entry.value, entry.source) == ("num.partitions", "1", ConfigSource.DEFAULT)
