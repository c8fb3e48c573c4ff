"""`riverlog group reset`: where a group would be, whether that is safe, and setting it there.

A plan is printed without `--execute`. What is refused: a group with members (their next commits would win), partitions that
are not there, and offsets outside of what a partition holds, which `--clamp` brings to its nearest end. Places that are looked
for (earliest, latest, `-N`, a time) are within a partition by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from riverlog.cli.asking import Cluster
from riverlog.cli.client import admin, answer_seconds_max, explain, topic_metadata
from riverlog.cli.committed import Offsets, committed_of
from riverlog.cli.errors import DONE, WRONG_USE, CommandError
from riverlog.cli.groups import stop_them
from riverlog.cli.members import Group, describe_group
from riverlog.cli.output import print_json, print_table
from riverlog.cli.places import Ends, Partition, find_ends, find_offsets
from riverlog.cli.positions import At, Place, parse_place, parse_shift

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


class Wanted(NamedTuple):
    """Of the command line. One of `to` and `by` is given; no topics are all that the group has offsets in."""

    group: str
    to: str | None
    by: str | None
    topics: Sequence[str]
    partitions: Sequence[int]
    clamp: bool
    execute: bool


def reset(wanted: Wanted, bootstrap: str, json: bool) -> int:
    """Prints which offsets would become which; does it with `execute`."""
    move = _move(wanted)
    client = admin(bootstrap)
    committed = committed_of(client, [wanted.group], bootstrap)[wanted.group]
    with Cluster(bootstrap) as cluster:
        group = describe_group(cluster, wanted.group)
    ends = find_ends(client, _partitions(client, wanted, group, committed, bootstrap), bootstrap)
    offsets = within(_offsets(client, wanted.group, move, committed, ends, bootstrap), ends, clamp=wanted.clamp)
    if wanted.execute:
        if group.members:
            raise CommandError(_alive(group))
        _commit(client, wanted.group, offsets, bootstrap)
    plan = [
        {
            "topic": topic,
            "partition": index,
            "committed": at.offset if (at := committed.get((topic, index))) else None,
            "to": to,
        }
        for (topic, index), to in offsets.items()
    ]
    if json:
        members = [one.member_id for one in group.members]
        print_json({"group": wanted.group, "executed": wanted.execute, "members": members, "plan": plan})
        return DONE
    columns = ("topic", "partition", "committed", "to")
    print_table(columns, [["-" if row[key] is None else row[key] for key in columns] for row in plan])
    print(_outcome(wanted, group))
    return DONE


def _outcome(wanted: Wanted, group: Group) -> str:
    if wanted.execute:
        return f"group {wanted.group} is there now"
    if group.members:
        return f"nothing was changed, and --execute would refuse: {_alive(group)}"
    return "nothing was changed: --execute does it"


def _alive(group: Group) -> str:
    return f"group {group.name!r} has members, whose commits would win: {stop_them(group)}"


def _move(wanted: Wanted) -> Place | int:
    """A place, or a shift from what is committed. Raises CommandError."""
    if (wanted.to is None) == (wanted.by is None):
        raise CommandError("say where: --to PLACE, or --by RECORDS from where the group is", WRONG_USE)
    if any(one < 0 for one in wanted.partitions):
        raise CommandError("-p takes the number of a partition, from 0 on", WRONG_USE)
    if wanted.partitions and len(wanted.topics) != 1:
        raise CommandError("-p goes with one topic: give -t TOPIC once", WRONG_USE)
    try:
        return (
            parse_shift(wanted.by)
            if wanted.by is not None
            else parse_place(wanted.to or "", time.time_ns() // 1_000_000)
        )
    except ValueError as error:
        raise CommandError(f"{'--to' if wanted.by is None else '--by'}: {error}", WRONG_USE) from error


def _partitions(
    client: AdminClient, wanted: Wanted, group: Group, committed: Offsets, bootstrap: str
) -> list[Partition]:
    """All partitions of the topics that were named, else of those in which the group has committed something."""
    topics = list(dict.fromkeys(wanted.topics)) or sorted({topic for topic, _ in committed})
    if not topics:
        if group.is_dead:
            raise CommandError(
                f"there is no group {wanted.group!r} at {bootstrap}: `riverlog group list` shows what there is, and "
                "-t TOPIC says where a new one shall begin"
            )
        raise CommandError(f"group {wanted.group!r} has committed nothing: name the topics with -t TOPIC")
    found: list[Partition] = []
    for topic in topics:
        there = sorted(topic_metadata(client, topic, bootstrap).partitions)
        if missing := sorted(set(wanted.partitions) - set(there)):
            raise CommandError(f"topic {topic!r} has no partition {missing[0]}: it has 0 to {there[-1]}")
        found += [(topic, index) for index in there if not wanted.partitions or index in wanted.partitions]
    return found


def _offsets(
    client: AdminClient, group: str, move: Place | int, committed: Offsets, ends: dict[Partition, Ends], bootstrap: str
) -> dict[Partition, int]:
    """As asked for: it may lie outside of the partition."""
    if isinstance(move, int):
        return shifted(group, move, committed, ends)
    if isinstance(move, At):
        return dict.fromkeys(ends, move.offset)
    return find_offsets(client, move, ends, bootstrap)


def shifted(group: str, by: int, committed: Offsets, ends: Mapping[Partition, Ends]) -> dict[Partition, int]:
    """By so many records from what is committed. A partition without an offset stays without; CommandError where none has one."""
    found = {one: committed[one].offset + by for one in ends if one in committed}
    if not found:
        raise CommandError(f"group {group!r} has committed nothing there to go on from: give --to PLACE")
    return found


def within(offsets: Mapping[Partition, int], ends: Mapping[Partition, Ends], *, clamp: bool) -> dict[Partition, int]:
    """The same, brought into the partitions where that was asked for. Raises CommandError that names the ranges."""
    outside = [one for one, offset in offsets.items() if not ends[one].first <= offset <= ends[one].end]
    if outside and not clamp:
        ranges = [(f"{topic} partition {at}", ends[topic, at]) for topic, at in outside[:5]]
        told = "; ".join(f"{where} has {of.first} to {of.end}" for where, of in ranges)
        more = f"; and {len(outside) - 5} more" if len(outside) > 5 else ""
        topic, at = outside[0]
        raise CommandError(
            f"offset {offsets[topic, at]} is not in {topic} partition {at}: {told}{more}; --clamp takes the nearest"
        )
    return {one: min(max(offset, ends[one].first), ends[one].end) for one, offset in offsets.items()}


def _commit(client: AdminClient, name: str, offsets: dict[Partition, int], bootstrap: str) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

    request = [ConsumerGroupTopicPartitions(name, [TopicPartition(*one, offset) for one, offset in offsets.items()])]
    try:
        answer: Any = client.alter_consumer_group_offsets(request, request_timeout=answer_seconds_max)[name].result()
        errors = [one.error for one in answer.topic_partitions if one.error is not None]
    except KafkaException as error:
        errors = [error.args[0]]
    if not errors:
        return
    if errors[0].code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP):  # somebody has come meanwhile
        raise CommandError(f"group {name!r} has members, whose commits would win: stop them first")
    raise CommandError(explain(errors[0], bootstrap))
