"""`riverlog group …`: where consumer groups are, who is in them, and setting them elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from riverlog.cli.client import admin, answer_seconds_max, each_done, explain, explained, topic_metadata
from riverlog.cli.errors import DONE, WRONG_USE, CommandError
from riverlog.cli.output import print_json, print_table
from riverlog.cli.places import Ends, Partition, find_ends, find_offsets
from riverlog.cli.positions import parse_place

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


def show_all(bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    with explained(bootstrap):
        listed = client.list_consumer_groups(request_timeout=answer_seconds_max).result()
    if listed.errors and not listed.valid:
        error = listed.errors[0]  # a KafkaError; an exception with one in other versions of the client
        raise CommandError(explain(getattr(error, "args", (error,))[0], bootstrap))
    rows = sorted((one.group_id, one.state.name.lower()) for one in listed.valid)
    if json:
        print_json([{"group": name, "state": state} for name, state in rows])
    else:
        print_table(("group", "state"), rows)
    return DONE


def describe(names: Sequence[str], bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    descriptions = [_description(client, name, bootstrap) for name in names]
    if json:
        print_json(descriptions)
        return DONE
    columns = ("topic", "partition", "committed", "end", "lag", "member")
    for number, one in enumerate(descriptions):
        if number:
            print()
        title = f"group {one['group']}, {one['state']}, {len(one['members'])} members"
        rows = [["-" if row[name] is None else row[name] for name in columns] for row in one["partitions"]]
        print_table(columns, rows, title=title)
    return DONE


def _description(client: AdminClient, name: str, bootstrap: str) -> dict[str, Any]:
    """`committed` and `lag` are null where the group has committed nothing yet."""
    with explained(bootstrap):
        group = client.describe_consumer_groups([name], request_timeout=answer_seconds_max)[name].result()
    committed = _committed(client, name, bootstrap)
    owners = {
        (one.topic, one.partition): member.member_id
        for member in group.members
        if member.assignment is not None
        for one in member.assignment.topic_partitions
    }
    if group.state.name == "DEAD" and not committed:
        raise CommandError(f"there is no group {name!r} at {bootstrap}: `riverlog group list` shows what there is")
    ends = _ends(client, sorted(committed.keys() | owners.keys()), bootstrap)
    return {
        "group": name,
        "state": group.state.name.lower(),
        "members": [
            {"member": one.member_id, "client": one.client_id, "host": one.host, "instance": one.group_instance_id}
            for one in group.members
        ],
        "partitions": [
            {
                "topic": partition[0],
                "partition": partition[1],
                "committed": (at := committed.get(partition)),
                "end": of.end,
                "lag": None if at is None else max(0, of.end - at),
                "member": owners.get(partition),
            }
            for partition, of in ends.items()
        ],
    }


def _committed(client: AdminClient, name: str, bootstrap: str) -> dict[Partition, int]:
    from confluent_kafka import ConsumerGroupTopicPartitions

    with explained(bootstrap):
        request = [ConsumerGroupTopicPartitions(name)]
        answer = client.list_consumer_group_offsets(request, request_timeout=answer_seconds_max)[name].result()
    return {(one.topic, one.partition): one.offset for one in answer.topic_partitions if one.offset >= 0}


def _ends(client: AdminClient, partitions: Sequence[Partition], bootstrap: str) -> dict[Partition, Ends]:
    """Of those partitions that still exist."""
    with explained(bootstrap):
        topics = client.list_topics(timeout=answer_seconds_max).topics
    there = [(topic, index) for topic, index in partitions if topic in topics and index in topics[topic].partitions]
    return find_ends(client, there, bootstrap)


def delete(names: Sequence[str], bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    with explained(bootstrap):
        futures = client.delete_consumer_groups(list(names), request_timeout=answer_seconds_max)
    each_done(futures, "deleted group", bootstrap, json=json)
    return DONE


def reset(name: str, to: str, topics: Sequence[str], execute: bool, bootstrap: str, json: bool) -> int:
    """Prints which offsets would become which; does it with `execute`."""
    try:
        place = parse_place(to, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise CommandError(f"--to: {error}", WRONG_USE) from error
    client = admin(bootstrap)
    committed = _committed(client, name, bootstrap)
    ends = find_ends(client, _partitions_to_reset(client, name, topics, committed, bootstrap), bootstrap)
    offsets = find_offsets(client, place, ends, bootstrap)
    if execute:
        _commit(client, name, offsets, bootstrap)
    plan = [
        {"topic": topic, "partition": index, "committed": committed.get((topic, index)), "to": offset}
        for (topic, index), offset in offsets.items()
    ]
    if json:
        print_json({"group": name, "executed": execute, "plan": plan})
        return DONE
    columns = ("topic", "partition", "committed", "to")
    print_table(columns, [["-" if row[key] is None else row[key] for key in columns] for row in plan])
    print(f"group {name} is there now" if execute else "nothing was changed: --execute does it")
    return DONE


def _partitions_to_reset(
    client: AdminClient, name: str, topics: Sequence[str], committed: dict[Partition, int], bootstrap: str
) -> list[Partition]:
    """All partitions of the topics that were named, else of those in which the group has committed something."""
    wanted = list(dict.fromkeys(topics)) or sorted({topic for topic, _ in committed})
    if not wanted:
        raise CommandError(f"group {name!r} has committed nothing: name the topics with -t TOPIC")
    return [(topic, index) for topic in wanted for index in sorted(topic_metadata(client, topic, bootstrap).partitions)]


def _commit(client: AdminClient, name: str, offsets: dict[Partition, int], bootstrap: str) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

    request = [ConsumerGroupTopicPartitions(name, [TopicPartition(*one, offset) for one, offset in offsets.items()])]
    try:
        answer = client.alter_consumer_group_offsets(request, request_timeout=answer_seconds_max)[name].result()
        errors = [one.error for one in answer.topic_partitions if one.error is not None]
    except KafkaException as error:
        errors = [error.args[0]]
    if not errors:
        return
    if errors[0].code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP):
        raise CommandError(f"group {name!r} has members, whose commits would win: stop them first")
    raise CommandError(explain(errors[0], bootstrap))
