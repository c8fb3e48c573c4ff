"""Deciding about topics, over frozen values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pytest

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId, TopicName
from riverlog.state.topics import (
    ConfigChange,
    ConfigOperation,
    TopicFacts,
    TopicRules,
    TopicSpec,
    check_topic_name,
    decide_config_changes,
    decide_configs,
    decide_create,
    decide_delete,
    decide_forget,
    decide_partitions,
    decode_topic,
    encode_topic,
    is_internal,
    name_key,
    topic_key,
)

ID = TopicId(bytes(range(16)))
RULES = TopicRules()


def facts(overrides: Mapping[str, str] | None = None, partition_count: int = 3) -> TopicFacts:
    return TopicFacts(
        topic_id=ID,
        name=TopicName("a.b"),
        partition_count=partition_count,
        replication_factor=2,
        overrides=overrides or {},
        version=17,
    )


def kind(decide: Callable[[], object]) -> ErrorKind:
    with pytest.raises(RiverlogError) as caught:
        decide()
    assert caught.value.message
    return caught.value.kind


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 249, "...", "__consumer_offsets", "-"])
def test_names_that_kafka_takes(name: str) -> None:
    assert check_topic_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 250, "a b", "a/b", "ä", "a\n", "a:b", "\x00"])
def test_names_that_kafka_refuses(name: str) -> None:
    assert kind(lambda: check_topic_name(name)) is ErrorKind.INVALID_TOPIC


def test_internal_names() -> None:
    assert is_internal("__consumer_offsets")
    assert not is_internal("__mine")


def test_the_row_of_a_topic_is_readable_and_comes_back() -> None:
    topic = facts({"retention.ms": "5", "cleanup.policy": "compact"})
    value = encode_topic(topic)
    assert json.loads(value) == {
        "name": "a.b",
        "partitions": 3,
        "replication_factor": 2,
        "configs": {"cleanup.policy": "compact", "retention.ms": "5"},
    }
    assert decode_topic(topic_key(ID), value, 17) == topic
    marked = replace(topic, deleting=True)
    assert decode_topic(topic_key(ID), encode_topic(marked), 17) == marked


def test_keys_of_newer_versions_are_passed_over() -> None:
    value = b'{"name":"a.b","partitions":3,"replication_factor":2,"configs":{},"later":[1]}'
    assert decode_topic(topic_key(ID), value, 17) == facts()


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"name":"a"}', b"\xff", b'{"name":"a","partitions":"x"}'])
def test_a_damaged_row_is_named(value: bytes) -> None:
    with pytest.raises(RiverlogError, match="topic/000102") as caught:
        decode_topic(topic_key(ID), value, 1)
    assert caught.value.kind is ErrorKind.STORAGE


def test_create_takes_the_name_and_the_id_or_nothing() -> None:
    plan = decide_create(TopicSpec(name="a.b", configs={"retention.ms": " 5 "}), ID, None, RULES)
    assert [(row.key, row.expected) for row in plan.rows] == [("name/a_b", 0), (topic_key(ID), 0)]
    assert plan.rows[0].value == ID.hex().encode()
    assert (plan.topic.partition_count, plan.topic.replication_factor) == (1, 1)
    assert plan.topic.overrides == {"retention.ms": "5"}
    assert decode_topic(topic_key(ID), plan.rows[1].value or b"", 0) == plan.topic


def test_names_that_differ_in_dot_and_underscore_share_a_row() -> None:
    assert name_key("a.b_c") == name_key("a_b.c") == "name/a_b_c"
    assert kind(lambda: decide_create(TopicSpec(name="a.b"), ID, "a_b", RULES)) is ErrorKind.INVALID_TOPIC
    assert kind(lambda: decide_create(TopicSpec(name="a.b"), ID, "a.b", RULES)) is ErrorKind.TOPIC_EXISTS


def test_the_brokers_defaults_stand_in_and_are_not_kept() -> None:
    rules = TopicRules(partition_count=6, replication_factor=3, defaults={"retention.ms": "5"})
    topic = decide_create(TopicSpec(name="a"), ID, None, rules).topic
    assert (topic.partition_count, topic.replication_factor, topic.overrides) == (6, 3, {})


def test_configs_that_contradict_the_brokers_are_refused() -> None:
    rules = TopicRules(defaults={"max.compaction.lag.ms": "10"})
    spec = TopicSpec(name="a", configs={"min.compaction.lag.ms": "11"})
    assert kind(lambda: decide_create(spec, ID, None, rules)) is ErrorKind.INVALID_CONFIG


def test_strict_replication() -> None:
    rules = TopicRules(strict_replication=True)
    assert decide_create(TopicSpec(name="a", replication_factor=1), ID, None, rules)
    spec = TopicSpec(name="a", replication_factor=2)
    assert kind(lambda: decide_create(spec, ID, None, rules)) is ErrorKind.INVALID_REPLICATION_FACTOR


def test_an_assignment_that_names_a_partition_twice_is_refused() -> None:
    spec = TopicSpec(name="a", assignments=[(0, [1]), (0, [2])])
    assert kind(lambda: decide_create(spec, ID, None, RULES)) is ErrorKind.INVALID_REPLICA_ASSIGNMENT


def test_delete_frees_the_name_and_marks_the_rest_until_the_logs_are_gone() -> None:
    plan = decide_delete(facts())
    assert [(row.key, row.expected) for row in plan.rows] == [("name/a_b", None), (topic_key(ID), 17)]
    assert plan.rows[0].value is None
    assert decode_topic(topic_key(ID), plan.rows[1].value or b"", 17).deleting
    (row,) = decide_forget(facts()).rows
    assert (row.key, row.value) == (topic_key(ID), None)


def test_partitions_only_grow() -> None:
    plan = decide_partitions(facts(), 5, None, RULES)
    assert (plan.topic.partition_count, plan.rows[0].expected) == (5, 17)
    for count in (3, 2, 0, -1, 100_001):
        assert kind(partial(decide_partitions, facts(), count, None, RULES)) is ErrorKind.INVALID_PARTITIONS


def test_replacing_configs_with_the_same_asks_nothing_of_the_catalog() -> None:
    assert decide_configs(facts({"retention.ms": "5"}), {"retention.ms": "5"}, RULES).rows == ()
    assert decide_configs(facts({"retention.ms": "5"}), {}, RULES).topic.overrides == {}


@pytest.mark.parametrize(
    ("before", "operation", "value", "after"),
    [
        (None, ConfigOperation.APPEND, "compact", "delete,compact"),
        ("compact", ConfigOperation.APPEND, "compact", "compact"),
        ("compact", ConfigOperation.APPEND, "delete", "compact,delete"),
        ("compact,delete", ConfigOperation.SUBTRACT, "compact", "delete"),
        ("compact", ConfigOperation.SUBTRACT, "delete", "compact"),
        ("compact", ConfigOperation.SET, "delete", "delete"),
        ("compact", ConfigOperation.DELETE, None, None),
        (None, ConfigOperation.DELETE, None, None),
    ],
)
def test_lists_grow_and_shrink(
    before: str | None, operation: ConfigOperation, value: str | None, after: str | None
) -> None:
    topic = facts({"cleanup.policy": before} if before is not None else {})
    plan = decide_config_changes(topic, [ConfigChange("cleanup.policy", operation, value)], RULES)
    assert plan.topic.overrides.get("cleanup.policy") == after


def test_appending_begins_with_the_brokers_default() -> None:
    rules = TopicRules(defaults={"cleanup.policy": "compact"})
    change = ConfigChange("cleanup.policy", ConfigOperation.APPEND, "delete")
    assert decide_config_changes(facts(), [change], rules).topic.overrides == {"cleanup.policy": "compact,delete"}


def test_a_config_that_this_version_does_not_know_can_be_deleted_where_it_is_kept() -> None:
    change = ConfigChange("newer.config", ConfigOperation.DELETE, None)
    assert decide_config_changes(facts({"newer.config": "1"}), [change], RULES).topic.overrides == {}
    assert kind(lambda: decide_config_changes(facts(), [change], RULES)) is ErrorKind.INVALID_CONFIG
