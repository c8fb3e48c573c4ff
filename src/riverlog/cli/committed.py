"""What groups have committed, and how far behind that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from riverlog.cli.client import answer_seconds_max, explained
from riverlog.cli.places import Ends, Partition, find_ends

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


class Committed(NamedTuple):
    """`metadata` is what the consumer said with it, mostly nothing."""

    offset: int
    metadata: str


Offsets = Mapping[Partition, Committed]


def committed_of(client: AdminClient, groups: Sequence[str], bootstrap: str) -> dict[str, Offsets]:
    """Of each group, by partition."""
    from confluent_kafka import ConsumerGroupTopicPartitions

    with explained(bootstrap):
        futures = [
            client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], request_timeout=answer_seconds_max)
            for name in groups
        ]
        answers = [future.result() for one in futures for future in one.values()]
    return {
        answer.group_id: {
            (one.topic, one.partition): Committed(one.offset, one.metadata or "")
            for one in answer.topic_partitions
            if one.offset >= 0
        }
        for answer in answers
    }


def ends_of(client: AdminClient, partitions: Iterable[Partition], bootstrap: str) -> dict[Partition, Ends]:
    """Of those partitions that still exist, in order."""
    with explained(bootstrap):
        topics = client.list_topics(timeout=answer_seconds_max).topics
    there = [
        (topic, index) for topic, index in sorted(partitions) if topic in topics and index in topics[topic].partitions
    ]
    return find_ends(client, there, bootstrap)


def lag(committed: Committed | None, ends: Ends) -> int | None:
    """None where nothing is committed."""
    return None if committed is None else max(0, ends.end - committed.offset)
