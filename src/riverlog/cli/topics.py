"""`riverlog topic …`: what topics there are, making, changing and deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from riverlog.cli.client import admin, answer_seconds_max, each_done, explained, topic_metadata
from riverlog.cli.errors import DONE, WRONG_USE, CommandError
from riverlog.cli.output import print_json, print_table
from riverlog.cli.places import find_ends

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

BROKER_DEFAULT: Final = -1


def parse_configs(texts: Sequence[str]) -> dict[str, str]:
    """`key=value` each. Raises CommandError."""
    configs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise CommandError(f"-c {text!r}: give -c key=value", WRONG_USE)
        configs[name.strip()] = value.strip()
    return configs


def create(
    names: Sequence[str],
    partitions: int | None,
    replicas: int | None,
    configs: Sequence[str],
    bootstrap: str,
    json: bool,
) -> int:
    config = parse_configs(configs)
    if partitions is not None and partitions < 1:
        raise CommandError(f"-p {partitions}: give at least one partition", WRONG_USE)
    if replicas is not None and replicas < 1:
        raise CommandError(f"-r {replicas}: give at least one replica, or leave -r out", WRONG_USE)
    client = admin(bootstrap)
    from confluent_kafka.admin import NewTopic

    topics = [
        NewTopic(
            name,
            num_partitions=partitions or BROKER_DEFAULT,
            replication_factor=replicas or BROKER_DEFAULT,
            config=config,
        )
        for name in names
    ]
    with explained(bootstrap):
        futures = client.create_topics(topics, request_timeout=answer_seconds_max)
    each_done(futures, "created topic", bootstrap, json=json)
    return DONE


def show_all(internal: bool, bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    with explained(bootstrap):
        topics = client.list_topics(timeout=answer_seconds_max).topics
    rows = [
        (name, len(topic.partitions), max((len(one.replicas) for one in topic.partitions.values()), default=0))
        for name, topic in sorted(topics.items())
        if internal or not name.startswith("__")
    ]
    if json:
        print_json(
            [{"topic": name, "partitions": partitions, "replicas": replicas} for name, partitions, replicas in rows]
        )
    else:
        print_table(("topic", "partitions", "replicas"), rows)
    return DONE


def describe(names: Sequence[str], bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    descriptions = [_description(client, name, bootstrap) for name in names]
    if json:
        print_json(descriptions)
        return DONE
    for number, one in enumerate(descriptions):
        if number:
            print()
        columns = ("partition", "leader", "first", "end", "records")
        print_table(
            columns, [[row[name] for name in columns] for row in one["partitions"]], title=f"topic {one['topic']}"
        )
        if one["configs"]:
            print()
            print_table(
                ("config", "value", "from"), [(row["name"], row["value"], row["source"]) for row in one["configs"]]
            )
    return DONE


def _description(client: AdminClient, name: str, bootstrap: str) -> dict[str, Any]:
    """`records` counts offsets, of which compaction and markers may use some."""
    metadata = topic_metadata(client, name, bootstrap)
    ends = find_ends(client, [(name, index) for index in sorted(metadata.partitions)], bootstrap)
    return {
        "topic": name,
        "partitions": [
            {
                "partition": index,
                "leader": metadata.partitions[index].leader,
                "first": of.first,
                "end": of.end,
                "records": of.end - of.first,
            }
            for (_, index), of in ends.items()
        ],
        "configs": _configs(client, name, bootstrap),
    }


def _configs(client: AdminClient, name: str, bootstrap: str) -> list[dict[str, Any]]:
    """Those that somebody has set, on the topic or for all topics."""
    from confluent_kafka.admin import ConfigResource, ConfigSource, ResourceType

    resource = ConfigResource(ResourceType.TOPIC, name)
    with explained(bootstrap):
        entries = client.describe_configs([resource], request_timeout=answer_seconds_max)[resource].result()
    sources = {
        ConfigSource.DYNAMIC_TOPIC_CONFIG.value: "topic",
        ConfigSource.DYNAMIC_BROKER_CONFIG.value: "broker",
        ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG.value: "broker",
        ConfigSource.STATIC_BROKER_CONFIG.value: "broker",
    }
    return [
        {"name": key, "value": entry.value, "source": sources[entry.source]}
        for key, entry in sorted(entries.items())
        if entry.source in sources
    ]


def alter(
    name: str, partitions: int | None, configs: Sequence[str], unset: Sequence[str], bootstrap: str, json: bool
) -> int:
    config = parse_configs(configs)
    if partitions is None and not config and not unset:
        raise CommandError("nothing to alter: give -p PARTITIONS, -c key=value or --unset key", WRONG_USE)
    if both := sorted(config.keys() & set(unset)):
        raise CommandError(f"{both[0]} is both set and unset: give one", WRONG_USE)
    client = admin(bootstrap)
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType

    topic_metadata(client, name, bootstrap)
    entries = [
        *(ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()),
        *(ConfigEntry(key, None, incremental_operation=AlterConfigOpType.DELETE) for key in unset),
    ]
    with explained(bootstrap):
        if entries:
            resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
            client.incremental_alter_configs([resource], request_timeout=answer_seconds_max)[resource].result()
        if partitions is not None:
            client.create_partitions([NewPartitions(name, partitions)], request_timeout=answer_seconds_max)[
                name
            ].result()
    if json:
        print_json({"topic": name, "partitions": partitions, "set": config, "unset": list(unset)})
    else:
        print(f"altered topic {name}")
    return DONE


def delete(names: Sequence[str], bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    with explained(bootstrap):
        futures = client.delete_topics(list(names), request_timeout=answer_seconds_max)
    each_done(futures, "deleted topic", bootstrap, json=json)
    return DONE
