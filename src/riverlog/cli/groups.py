"""`riverlog group …`: where consumer groups are, how far behind, who is in them, and taking groups and offsets away.

Not here: setting a group elsewhere, which is `resets.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from riverlog.cli.asking import GROUP, Cluster, name_of
from riverlog.cli.client import admin, answer_seconds_max, each_done, explain, explained, topic_metadata
from riverlog.cli.committed import Committed, Offsets, committed_of, ends_of, lag
from riverlog.cli.errors import DONE, CommandError
from riverlog.cli.members import Group, Member, Shares, describe_group
from riverlog.cli.output import print_json, print_table
from riverlog.cli.places import Partition
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_COLUMNS = ("group", "type", "state", "members", "lag")
_PARTITION_COLUMNS = ("topic", "partition", "committed", "end", "lag", "member")
_MEMBER_COLUMNS = ("member", "client", "host", "instance", "epoch", "subscribed", "assigned", "target")


def show_all(bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    with explained(bootstrap):
        listed = client.list_consumer_groups(request_timeout=answer_seconds_max).result()
    if listed.errors and not listed.valid:
        error = listed.errors[0]  # a KafkaError; an exception with one in other versions of the client
        raise CommandError(explain(getattr(error, "args", (error,))[0], bootstrap))
    found = {one.group_id: one for one in listed.valid}
    names = sorted(found)
    with explained(bootstrap):
        futures = client.describe_consumer_groups(names, request_timeout=answer_seconds_max) if names else {}
        members = {name: len(future.result().members) for name, future in futures.items()}
    lags = _lags(client, names, bootstrap)
    rows = [
        dict(zip(_COLUMNS, (name, _type(one), one.state.name.lower(), members[name], lags[name]), strict=True))
        for name, one in ((name, found[name]) for name in names)
    ]
    if json:
        print_json(rows)
    else:
        print_table(_COLUMNS, [_cells(row, _COLUMNS) for row in rows])
    return DONE


def _type(listed: Any) -> str:
    """Brokers that are older than the consumer protocol have classic groups and do not say so."""
    kind = getattr(listed, "type", None)
    return "classic" if kind is None or kind.name == "UNKNOWN" else str(kind.name.lower())


def _lags(client: AdminClient, names: Sequence[str], bootstrap: str) -> dict[str, int | None]:
    """Of all partitions together; None where nothing is committed."""
    committed = committed_of(client, names, bootstrap)
    ends = ends_of(client, {partition for offsets in committed.values() for partition in offsets}, bootstrap)
    lags: dict[str, int | None] = {}
    for name in names:
        of_each = [lag(at, ends[one]) or 0 for one, at in committed.get(name, {}).items() if one in ends]
        lags[name] = sum(of_each) if of_each else None
    return lags


def describe(names: Sequence[str], bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    with Cluster(bootstrap) as cluster:
        descriptions = [_description(client, cluster, name, bootstrap) for name in names]
    if json:
        print_json(descriptions)
        return DONE
    for number, one in enumerate(descriptions):
        if number:
            print()
        _print_description(one)
    return DONE


def _print_description(one: dict[str, Any]) -> None:
    epoch = "" if one["epoch"] is None else f", epoch {one['epoch']}"
    if one["assignment_epoch"] != one["epoch"]:
        epoch += f" (its target assignment is of {one['assignment_epoch']})"
    assignor = "" if one["assignor"] is None else f", {one['assignor']} assignor"
    count = len(one["members"])
    title = f"group {one['group']}, {one['type']}, {one['state']}, {count} member{'' if count == 1 else 's'}"
    rows = [_cells(row, _PARTITION_COLUMNS) for row in one["partitions"]]
    print_table(_PARTITION_COLUMNS, rows, title=f"{title}{epoch}{assignor}")
    if not one["members"]:
        return
    print()
    print_table(_MEMBER_COLUMNS, [_cells(_member_row(row), _MEMBER_COLUMNS) for row in one["members"]])


def _cells(row: dict[str, Any], columns: Sequence[str]) -> list[object]:
    return ["-" if row[name] is None else row[name] for name in columns]


def _member_row(member: dict[str, Any]) -> dict[str, Any]:
    """`target` only where it is not yet what the member has."""
    subscribed = [*member["topics"], *([f"~{member['regex']}"] if member["regex"] else [])]
    settled = member["target"] is None or member["target"] == member["assigned"]
    return {
        **member,
        "subscribed": " ".join(subscribed) or None,
        "assigned": _told(member["assigned"]),
        "target": None if settled else _told(member["target"]) or "nothing",
    }


def _told(shares: Sequence[dict[str, Any]]) -> str | None:
    """`clicks:0-3,7 orders:1`."""
    return " ".join(f"{one['topic']}:{spans(one['partitions'])}" for one in shares) or None


def spans(numbers: Sequence[int]) -> str:
    """`0-3,7` for ascending numbers."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)


def _description(client: AdminClient, cluster: Cluster, name: str, bootstrap: str) -> dict[str, Any]:
    """`committed` and `lag` are null where the group has committed nothing yet."""
    group = describe_group(cluster, name)
    committed = committed_of(client, [name], bootstrap)[name]
    if group.is_dead and not committed:
        raise CommandError(f"there is no group {name!r} at {bootstrap}: `riverlog group list` shows what there is")
    partitions = _partitions(client, group, committed, bootstrap)
    lags = [one["lag"] for one in partitions if one["lag"] is not None]
    return {
        "group": name,
        "type": group.protocol,
        "state": group.state,
        "epoch": group.epoch,
        "assignment_epoch": group.assignment_epoch,
        "assignor": group.assignor,
        "lag": sum(lags) if lags else None,
        "members": [_member(one) for one in group.members],
        "partitions": partitions,
    }


def _partitions(client: AdminClient, group: Group, committed: Offsets, bootstrap: str) -> list[dict[str, Any]]:
    owners: dict[Partition, str] = {
        (topic, index): member.member_id
        for member in group.members
        for topic, indexes in member.assigned.items()
        for index in indexes
    }
    return [
        {
            "topic": partition[0],
            "partition": partition[1],
            "committed": None if (at := committed.get(partition)) is None else at.offset,
            "metadata": None if at is None else at.metadata or None,
            "end": of.end,
            "lag": lag(at, of),
            "member": owners.get(partition),
        }
        for partition, of in ends_of(client, committed.keys() | owners.keys(), bootstrap).items()
    ]


def _member(one: Member) -> dict[str, Any]:
    return {
        "member": one.member_id,
        "client": one.client,
        "host": one.host,
        "instance": one.instance,
        "protocol": one.protocol,
        "epoch": one.epoch,
        "topics": list(one.topics),
        "regex": one.regex,
        "assigned": _listed(one.assigned),
        "target": None if one.target is None else _listed(one.target),
    }


def _listed(shares: Shares) -> list[dict[str, Any]]:
    return [{"topic": topic, "partitions": list(shares[topic])} for topic in sorted(shares) if shares[topic]]


def delete(names: Sequence[str], bootstrap: str, json: bool) -> int:
    client = admin(bootstrap)
    with explained(bootstrap):
        futures = client.delete_consumer_groups(list(names), request_timeout=answer_seconds_max)

    def reason(name: str, error: Any) -> str | None:
        if error.name() != ErrorCode.NON_EMPTY_GROUP.name:
            return None
        with Cluster(bootstrap) as cluster:
            return f"it has members: {stop_them(describe_group(cluster, name))}"

    each_done(futures, "deleted group", bootstrap, json=json, reason=reason)
    return DONE


def delete_offsets(name: str, topics: Sequence[str], partitions: Sequence[int], bootstrap: str, json: bool) -> int:
    """Of topics that no member of the group reads. Raises CommandError that names what was refused, once all was asked for."""
    client = admin(bootstrap)
    wanted = _offsets_to_delete(client, name, topics, partitions, bootstrap)
    asked = {topic: [at for one, at in wanted if one == topic] for topic, _ in wanted}
    request = OffsetDeleteRequest(
        group_id=name,
        topics=[
            OffsetDeleteRequestTopic(
                name=topic, partitions=[OffsetDeleteRequestPartition(partition_index=at) for at in each]
            )
            for topic, each in asked.items()
        ],
    )
    with Cluster(bootstrap) as cluster:
        answer = cluster.ask_coordinator(GROUP, name, ApiKey.OFFSET_DELETE, request, lambda it: int(it.error_code))
        told = {
            (topic.name, one.partition_index): one.error_code for topic in answer.topics for one in topic.partitions
        }
        refused = {one: code for one in wanted if (code := answer.error_code or told[one])}
        rows = [
            {"topic": topic, "partition": at, "committed": offset, "deleted": (topic, at) not in refused}
            for (topic, at), (offset, _) in wanted.items()
        ]
        columns = ("topic", "partition", "committed")
        if json:
            print_json({"group": name, "offsets": rows})
        elif done := [_cells(row, columns) for row in rows if row["deleted"]]:
            print_table(columns, done, title=f"deleted offsets of group {name}")
        if refused:
            raise CommandError(_why_not_deleted(cluster, name, refused))
    return DONE


def _offsets_to_delete(
    client: AdminClient, name: str, topics: Sequence[str], partitions: Sequence[int], bootstrap: str
) -> dict[Partition, Committed]:
    """What the group has committed of that. Raises CommandError where it is nothing."""
    committed = committed_of(client, [name], bootstrap)[name]
    for topic in topics:
        if not any(one == topic for one, _ in committed):
            topic_metadata(client, topic, bootstrap)
            raise CommandError(
                f"group {name!r} has committed nothing in topic {topic!r}: `riverlog group describe {name}`"
            )
    wanted = {
        one: at
        for one, at in sorted(committed.items())
        if one[0] in topics and (not partitions or one[1] in partitions)
    }
    if missing := sorted(set(partitions) - {index for _, index in wanted}):
        raise CommandError(f"group {name!r} has committed nothing in partition {missing[0]} of {' or '.join(topics)}")
    return wanted


def _why_not_deleted(cluster: Cluster, name: str, refused: Mapping[Partition, int]) -> str:
    topics = sorted({topic for topic, _ in refused})
    (topic, index), code = next(iter(refused.items()))
    if code not in (ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NON_EMPTY_GROUP):
        return f"the offset of {topic} partition {index} was not deleted: {name_of(code)}"
    return f"members of group {name!r} read {', '.join(topics)}: {stop_them(describe_group(cluster, name))}"


def stop_them(group: Group) -> str:
    """Who is alive in a group, and what to do about it. At most five are named."""
    named = ", ".join(one.name() for one in group.members[:5])
    more = f" and {len(group.members) - 5} more" if len(group.members) > 5 else ""
    stop = f"stop {named}{more} first" if named else "stop its members first"
    return f"{stop} (one that was killed leaves when its session ends)"
