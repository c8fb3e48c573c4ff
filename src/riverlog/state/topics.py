"""Deciding about topics: what a request to create, delete, widen or configure one becomes, over frozen values.

Invariant: what is decided here is a `Plan` of rows with the versions they were decided on; whether it took effect is
the catalog's word. Rows are keyed by topic id, so a topic made again under an old name shares nothing with the old
one; one row a name (with `.` read as `_`, because Kafka refuses two names that differ only there) makes names unique
everywhere. Not here: caches, logs, waiting (`broker/topics.py`), and the list of configurations (`topic_configs.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId, TopicName
from riverlog.base.limits import partitions_per_topic_max, topic_name_length_max
from riverlog.state.topic_configs import TOPIC_CONFIGS, ConfigType, check_config, resolve

TOPIC_PREFIX: Final = "topic/"  # + id in hex: a TopicFacts
NAME_PREFIX: Final = "name/"  # + name with `.` as `_`: the id in hex

_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    """What the catalog keeps about one topic. `version` is the row's, and rises with each change. `deleting`: the
    name is free again and the logs are going."""

    topic_id: TopicId
    name: TopicName
    partition_count: int
    replication_factor: int  # as asked; there is one replica
    overrides: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False
    version: int = 0


class RowChange(NamedTuple):
    """One row of the topics' scope: what is to become of it, and the version that it was decided on (0: there is
    none)."""

    key: str
    value: bytes | None
    expected: int | None


class Plan(NamedTuple):
    """What a decision asks of the catalog (nothing: it holds already), and the topic as it would be."""

    rows: Sequence[RowChange]
    topic: TopicFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as somebody asks for it. -1: the broker's default. `assignments`: (partition index, broker ids)."""

    name: str
    partition_count: int = -1
    replication_factor: int = -1
    assignments: Sequence[tuple[int, Sequence[int]]] = ()
    configs: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRules:
    """The broker's part in a decision."""

    partition_count: int = 1  # num.partitions
    replication_factor: int = 1  # default.replication.factor
    strict_replication: bool = False  # riverlog.strict.replication
    defaults: Mapping[str, str] = field(default_factory=dict)  # topic configuration -> value


class ConfigOperation(IntEnum):
    """As the Kafka protocol numbers them (IncrementalAlterConfigs)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class ConfigChange(NamedTuple):
    name: str
    operation: ConfigOperation
    value: str | None


def refused(kind: ErrorKind, message: str) -> RiverlogError:
    return RiverlogError(kind, message)


def check_topic_name(name: str) -> TopicName:
    """Kafka's rules. Raises INVALID_TOPIC."""
    if not name:
        raise refused(ErrorKind.INVALID_TOPIC, "a topic name cannot be empty")
    if name in (".", ".."):
        raise refused(ErrorKind.INVALID_TOPIC, f"a topic name cannot be {name!r}")
    if len(name) > topic_name_length_max:
        raise refused(
            ErrorKind.INVALID_TOPIC, f"a topic name has at most {topic_name_length_max} characters, not {len(name)}"
        )
    if not _LEGAL.match(name):
        raise refused(
            ErrorKind.INVALID_TOPIC,
            f"topic name {name!r} is not allowed: use letters a-z and A-Z, digits, '.', '_' and '-'",
        )
    return TopicName(name)


def is_internal(name: str) -> bool:
    """Names that Kafka keeps for itself; here they are topics like others, only marked."""
    return name in ("__consumer_offsets", "__transaction_state", "__share_group_state")


def topic_key(topic_id: TopicId) -> str:
    return TOPIC_PREFIX + topic_id.hex()


def name_key(name: str) -> str:
    return NAME_PREFIX + name.replace(".", "_")


def encode_topic(topic: TopicFacts) -> bytes:
    """The row's value, see docs/formats/catalog.md. Keys are never given another meaning."""
    facts: dict[str, object] = {
        "name": topic.name,
        "partitions": topic.partition_count,
        "replication_factor": topic.replication_factor,
        "configs": dict(sorted(topic.overrides.items())),
    }
    if topic.deleting:
        facts["deleting"] = True
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()


def decode_topic(key: str, value: bytes, version: int) -> TopicFacts:
    """Raises STORAGE where the row is not one of ours."""
    try:
        topic_id = bytes.fromhex(key.removeprefix(TOPIC_PREFIX))
        facts = json.loads(value)
        return TopicFacts(
            topic_id=TopicId(topic_id),
            name=TopicName(facts["name"]),
            partition_count=int(facts["partitions"]),
            replication_factor=int(facts["replication_factor"]),
            overrides={str(name): str(text) for name, text in facts["configs"].items()},
            deleting=bool(facts.get("deleting", False)),
            version=version,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise refused(
            ErrorKind.STORAGE, f"the catalog's row {key} is not a topic ({error!r}): restore catalog.db"
        ) from error


def decide_create(spec: TopicSpec, topic_id: TopicId, taken: str | None, rules: TopicRules) -> Plan:
    """`taken`: the name of a topic that has this name, or collides with it. Raises what Kafka answers."""
    name = check_topic_name(spec.name)
    if taken == name:
        raise refused(ErrorKind.TOPIC_EXISTS, f"topic {name!r} already exists")
    if taken is not None:
        raise refused(
            ErrorKind.INVALID_TOPIC,
            f"topic name {name!r} collides with {taken!r}: names cannot differ only in '.' and '_'",
        )
    partition_count, replication_factor = _shape(spec, rules)
    overrides = {key: _set_text(key, value) for key, value in spec.configs.items()}
    resolve(overrides, rules.defaults)
    topic = TopicFacts(
        topic_id=topic_id,
        name=name,
        partition_count=partition_count,
        replication_factor=replication_factor,
        overrides=overrides,
    )
    rows = (
        RowChange(name_key(name), topic_id.hex().encode(), 0),
        RowChange(topic_key(topic_id), encode_topic(topic), 0),
    )
    return Plan(rows, topic)


def _shape(spec: TopicSpec, rules: TopicRules) -> tuple[int, int]:
    """Partition count and replication factor."""
    if spec.assignments:
        if spec.partition_count != -1 or spec.replication_factor != -1:
            raise refused(
                ErrorKind.INVALID_REQUEST,
                "with a manual assignment, leave the number of partitions and the replication factor at -1",
            )
        indexes = sorted(index for index, _ in spec.assignments)
        if indexes != list(range(len(indexes))):
            raise refused(
                ErrorKind.INVALID_REPLICA_ASSIGNMENT,
                f"the assigned partitions must be 0 to n-1, each once; these are {indexes[:20]}",
            )
        partition_count = len(spec.assignments)
        replication_factor = _check_assignments([replicas for _, replicas in spec.assignments], rules)
    else:
        partition_count = rules.partition_count if spec.partition_count == -1 else spec.partition_count
        replication_factor = (
            rules.replication_factor if spec.replication_factor == -1 else spec.replication_factor
        )
        if replication_factor < 1 or replication_factor > 32767:
            raise refused(
                ErrorKind.INVALID_REPLICATION_FACTOR,
                f"replication factor {replication_factor} is not allowed: give 1 or more, or -1 for the default",
            )
        _check_replicas(replication_factor, rules)
    check_partition_count(partition_count)
    return partition_count, replication_factor


def check_partition_count(count: int) -> None:
    if not 1 <= count <= partitions_per_topic_max:
        raise refused(
            ErrorKind.INVALID_PARTITIONS,
            f"{count} partitions are not allowed: give 1 to {partitions_per_topic_max}, or -1 for the default",
        )


def _check_replicas(count: int, rules: TopicRules) -> None:
    if rules.strict_replication and count > 1:
        raise refused(
            ErrorKind.INVALID_REPLICATION_FACTOR,
            f"replication factor {count}: there is one replica; ask for 1, or set riverlog.strict.replication=false",
        )


def _check_assignments(assignments: Sequence[Sequence[int]], rules: TopicRules) -> int:
    """Well-formed: no partition without a broker, none with one twice, all of the same number. Gives that number."""
    for replicas in assignments:
        if not replicas or len(set(replicas)) != len(replicas) or min(replicas) < 0:
            raise refused(
                ErrorKind.INVALID_REPLICA_ASSIGNMENT,
                f"assignment {list(replicas)}: name one or more brokers, each once",
            )
        if len(replicas) != len(assignments[0]):
            raise refused(
                ErrorKind.INVALID_REPLICA_ASSIGNMENT, "all partitions of a topic have the same number of replicas"
            )
    _check_replicas(len(assignments[0]), rules)
    return len(assignments[0])


def decide_delete(topic: TopicFacts) -> Plan:
    """Frees the name at once; the topic's own row stays, marked, until its logs are gone (`decide_forget`)."""
    marked = replace(topic, deleting=True)
    rows = (
        RowChange(name_key(topic.name), None, None),
        RowChange(topic_key(topic.topic_id), encode_topic(marked), topic.version),
    )
    return Plan(rows, marked)


def decide_forget(topic: TopicFacts) -> Plan:
    """The last of a deleted topic, once its logs are gone."""
    return Plan((RowChange(topic_key(topic.topic_id), None, None),), topic)


def decide_partitions(
    topic: TopicFacts, count: int, assignments: Sequence[Sequence[int]] | None, rules: TopicRules
) -> Plan:
    """More partitions. Raises INVALID_PARTITIONS where there are as many already."""
    if count == topic.partition_count:
        raise refused(ErrorKind.INVALID_PARTITIONS, f"topic {topic.name!r} already has {count} partitions")
    if count < topic.partition_count:
        raise refused(
            ErrorKind.INVALID_PARTITIONS,
            f"topic {topic.name!r} has {topic.partition_count} partitions, and partitions cannot be taken away: "
            f"ask for more than that, not {count}",
        )
    check_partition_count(count)
    if assignments is not None:
        if len(assignments) != count - topic.partition_count:
            raise refused(
                ErrorKind.INVALID_REPLICA_ASSIGNMENT,
                f"{count - topic.partition_count} partitions are added, and {len(assignments)} are assigned",
            )
        _check_assignments(assignments, rules)
    return _replaced(topic, replace(topic, partition_count=count))


def decide_configs(topic: TopicFacts, configs: Mapping[str, str | None], rules: TopicRules) -> Plan:
    """These and no others (Kafka's AlterConfigs)."""
    overrides = {name: _set_text(name, value) for name, value in configs.items()}
    resolve(overrides, rules.defaults)
    return _replaced(topic, replace(topic, overrides=overrides))


def decide_config_changes(topic: TopicFacts, changes: Sequence[ConfigChange], rules: TopicRules) -> Plan:
    """One after another; what is not named stays (Kafka's IncrementalAlterConfigs)."""
    if len({change.name for change in changes}) != len(changes):
        raise refused(ErrorKind.INVALID_REQUEST, "a config is changed twice in one request: name each once")
    overrides = dict(topic.overrides)
    for change in changes:
        if change.operation is ConfigOperation.DELETE:
            if change.name not in overrides and change.name not in TOPIC_CONFIGS:
                check_config(change.name, "")
            overrides.pop(change.name, None)
        elif change.operation is ConfigOperation.SET:
            overrides[change.name] = _set_text(change.name, change.value)
        else:
            overrides[change.name] = _listed(change, overrides.get(change.name), rules)
    resolve(overrides, rules.defaults)
    return _replaced(topic, replace(topic, overrides=overrides))


def _set_text(name: str, value: str | None) -> str:
    if value is None:
        if name not in TOPIC_CONFIGS:
            check_config(name, "")  # raises, and names the nearest
        raise refused(ErrorKind.INVALID_CONFIG, f"{name} has no value: give one, or leave the config out")
    return check_config(name, value)


def _listed(change: ConfigChange, current: str | None, rules: TopicRules) -> str:
    """A list with elements added or taken away."""
    text = _set_text(change.name, change.value)
    spec = TOPIC_CONFIGS[change.name]
    if spec.type is not ConfigType.LIST:
        raise refused(
            ErrorKind.INVALID_CONFIG, f"{change.operation.name} needs a list, and {change.name} is none: use SET"
        )
    if current is None:
        current = rules.defaults.get(change.name, spec.default)
    elements = [one.strip() for one in current.split(",") if one.strip()]
    named = [one.strip() for one in text.split(",") if one.strip()]
    if change.operation is ConfigOperation.APPEND:
        elements += [one for one in named if one not in elements]
    else:
        elements = [one for one in elements if one not in named]
    return check_config(change.name, ",".join(elements))


def _replaced(topic: TopicFacts, changed: TopicFacts) -> Plan:
    if changed == topic:
        return Plan((), topic)
    return Plan((RowChange(topic_key(topic.topic_id), encode_topic(changed), topic.version),), changed)
