"""From where somebody wants to be (`positions.py`) to offsets, by asking the broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from riverlog.cli.client import list_offsets
from riverlog.cli.positions import At, AtTime, BeforeEnd, Earliest, Latest, Place

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

Partition = tuple[str, int]  # topic, partition


class Ends(NamedTuple):
    """Of one partition: its first offset, and the one after the newest record that readers see."""

    first: int
    end: int


def find_ends(client: AdminClient, partitions: Sequence[Partition], bootstrap: str) -> dict[Partition, Ends]:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    asked = [TopicPartition(*one) for one in partitions]
    first = list_offsets(client, {one: OffsetSpec.earliest() for one in asked}, bootstrap)
    end = list_offsets(client, {one: OffsetSpec.latest() for one in asked}, bootstrap)
    return {one: Ends(first[one], end[one]) for one in partitions}


def find_offsets(
    client: AdminClient, place: Place, ends: dict[Partition, Ends], bootstrap: str
) -> dict[Partition, int]:
    """The offset of `place` in each partition, within what there is."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    match place:
        case Earliest():
            return {one: of.first for one, of in ends.items()}
        case Latest():
            return {one: of.end for one, of in ends.items()}
        case At(offset):
            return {one: min(max(offset, of.first), of.end) for one, of in ends.items()}
        case BeforeEnd(count):
            return {one: max(of.end - count, of.first) for one, of in ends.items()}
        case AtTime(timestamp_ms):
            spec = OffsetSpec.for_timestamp(timestamp_ms)
            found = list_offsets(client, {TopicPartition(*one): spec for one in ends}, bootstrap)
            return {one: found[one] if found[one] >= 0 else of.end for one, of in ends.items()}
