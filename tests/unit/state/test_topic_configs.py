"""Topic configurations: the whole list, each range, the broker's synonyms, and what a refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.state.topic_configs import (
    BROKER_SYNONYMS,
    TOPIC_CONFIGS,
    ConfigType,
    check_config,
    resolve,
    topic_defaults,
)


def refusal(name: str, value: str) -> str:
    with pytest.raises(RiverlogError) as caught:
        check_config(name, value)
    assert caught.value.kind is ErrorKind.INVALID_CONFIG
    return caught.value.message


def test_every_default_passes_its_own_check() -> None:
    for spec in TOPIC_CONFIGS.values():
        spec.parse(spec.default)
        assert spec.documentation.endswith(".")
    assert list(TOPIC_CONFIGS) == sorted(TOPIC_CONFIGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "-1"), ("retention.ms", " 5 "), ("retention.ms", str(2**63 - 1)), ("retention.bytes", "-7"),
        ("cleanup.policy", "compact,delete"), ("cleanup.policy", "delete, compact"), ("cleanup.policy", ""),
        ("compression.type", "uncompressed"), ("compression.gzip.level", "-1"), ("compression.gzip.level", "9"),
        ("min.cleanable.dirty.ratio", "0"), ("min.cleanable.dirty.ratio", "1.0"), ("preallocate", "TRUE"),
        ("segment.bytes", "1048576"), ("local.retention.ms", "-2"), ("riverlog.durability", "page-cache"),
        ("leader.replication.throttled.replicas", "*"), ("min.insync.replicas", "2"),
        ("follower.replication.throttled.replicas", "0:1, 12:1"), ("follower.replication.throttled.replicas", ""),
        ("remote.storage.enable", "false"), ("local.retention.bytes", "5"), ("unclean.leader.election.enable", "true"),
    ],
)  # fmt: skip
def test_allowed(name: str, value: str) -> None:
    assert check_config(name, value) == value.strip()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "-2"), ("retention.ms", "a week"), ("retention.ms", ""), ("retention.ms", str(2**63)),
        ("retention.ms", "1_000"), ("retention.ms", "٣"), ("retention.ms", "9" * 5000),
        ("max.message.bytes", str(2**31)),
        ("cleanup.policy", "Delete"), ("cleanup.policy", "delete,"), ("cleanup.policy", "delete,delete"),
        ("compression.type", "brotli"), ("compression.gzip.level", "0"), ("compression.lz4.level", "18"),
        ("min.cleanable.dirty.ratio", "1.5"), ("min.cleanable.dirty.ratio", "nan"), ("preallocate", "yes"),
        ("segment.bytes", "1000"), ("min.insync.replicas", "0"), ("riverlog.durability", "always"),
        ("leader.replication.throttled.replicas", "all"), ("leader.replication.throttled.replicas", "0:1,*"),
        ("local.retention.ms", "-3"), ("max.compaction.lag.ms", "0"), ("delete.retention.ms", "-1"),
    ],
)  # fmt: skip
def test_refused_by_name_value_and_range(name: str, value: str) -> None:
    message = refusal(name, value)
    assert name in message
    assert repr(value) in message
    assert TOPIC_CONFIGS[name].allowed in message


@pytest.mark.parametrize("value", ["true", " TRUE "])
def test_what_cannot_be_had_is_refused_with_the_reason_and_old_topics_open(value: str) -> None:
    message = refusal("remote.storage.enable", value)
    assert "cannot be had" in message
    assert "not served yet" in message
    assert resolve({"remote.storage.enable": "true"}, {}) == resolve({}, {})


@pytest.mark.parametrize("name", ["message.downconversion.enable", "message.format.version"])
def test_what_kafka_4_took_away_is_unknown(name: str) -> None:
    assert "unknown topic config" in refusal(name, "true")


def test_kafkas_list_is_here_with_its_defaults() -> None:
    facts = (Path(__file__).parents[3] / "tests/unit/state/topic-configs.tsv").read_text(encoding="utf-8").splitlines()[1:]
    listed = {line.split("\t")[0]: line.split("\t")[2].split(" ")[0] for line in facts}
    assert {name: spec.default for name, spec in TOPIC_CONFIGS.items() if not name.startswith("riverlog.")} == listed


def test_an_unknown_name_names_the_nearest() -> None:
    assert "did you mean retention.ms?" in refusal("retentoin.ms", "1")
    assert "did you mean" not in refusal("zzz", "1")


def test_what_is_allowed_is_said_in_words() -> None:
    assert TOPIC_CONFIGS["retention.ms"].allowed == "a whole number (long) of at least -1"
    assert TOPIC_CONFIGS["compression.gzip.level"].allowed == "a whole number (int) from 1 to 9, or -1"
    assert TOPIC_CONFIGS["preallocate"].allowed == "true or false"
    assert TOPIC_CONFIGS["retention.bytes"].allowed == "a whole number (long)"


def test_broker_settings_become_topic_defaults_in_the_topics_unit() -> None:
    assert BROKER_SYNONYMS["log.retention.hours"] == ("retention.ms", 3_600_000)
    assert BROKER_SYNONYMS["message.max.bytes"] == ("max.message.bytes", 1)
    assert topic_defaults({"log.retention.hours": "2", "log.roll.hours": "1", "num.partitions": "3"}) == {
        "retention.ms": "7200000",
        "segment.ms": "3600000",
    }
    assert topic_defaults({"log.retention.minutes": "-1"}) == {"retention.ms": "-1"}


def test_the_finer_unit_wins() -> None:
    given = {"log.retention.hours": "2", "log.retention.ms": "5", "log.retention.minutes": "1"}
    assert topic_defaults(given) == {"retention.ms": "5"}


def test_a_bad_broker_setting_is_named() -> None:
    with pytest.raises(RiverlogError, match=r"log\.retention\.hours='soon'"):
        topic_defaults({"log.retention.hours": "soon"})


def test_resolve_takes_the_topic_then_the_broker_then_the_default() -> None:
    defaults = {"retention.ms": "2", "segment.bytes": "2000000", "cleanup.policy": "compact"}
    config = resolve({"retention.ms": "1"}, defaults)
    assert config.retention_ms == 1
    assert config.segment_bytes == 2_000_000
    assert (config.cleanup_compact, config.cleanup_delete) == (True, False)
    assert config.max_message_bytes == 1_048_588
    assert config.durability == "fsync"
    assert resolve({"message.timestamp.type": "LogAppendTime"}, {}).log_append_time
    assert resolve({"written.by.a.newer.version": "1"}, {}) == resolve({}, {})


def test_lags_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RiverlogError, match=r"min\.compaction\.lag\.ms"):
        resolve({"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}, {})


def test_types_have_the_protocols_numbers() -> None:
    assert (ConfigType.BOOLEAN, ConfigType.LONG, ConfigType.LIST) == (1, 5, 7)


def test_the_guide_names_each_config_where_it_belongs_and_a_test_for_what_is_obeyed() -> None:
    root = Path(__file__).parents[3]
    guide = (root / "docs/guide/topics.md").read_text(encoding="utf-8")
    obeyed, kept = guide.split("### Obeyed")[1].split("### Kept and shown")
    tests = "".join(path.read_text(encoding="utf-8") for path in sorted((root / "tests/unit").rglob("test_*.py")))
    for name, spec in TOPIC_CONFIGS.items():
        row = f"| `{name}` | {f'`{spec.default}` ' if spec.default else ''}|"
        assert (row in obeyed) == spec.obeyed, name
        assert (row in kept) != spec.obeyed, name
        if spec.obeyed:
            line = obeyed.split(row)[1].splitlines()[0]
            test = line.rsplit("`", 2)[1]
            assert f"def {test}(" in tests, name
