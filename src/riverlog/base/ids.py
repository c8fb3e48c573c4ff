"""Names and numbers that must not be mixed up. Different numbers have different types; at run time they cost nothing."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple, NewType

Offset = NewType("Offset", int)  # the n-th record of a partition, from 0
Position = NewType("Position", int)  # a byte in one file, from 0
LeaderEpoch = NewType("LeaderEpoch", int)  # rises at each unclean start; -1 is unknown
ProducerId = NewType("ProducerId", int)  # -1 is none
TopicName = NewType("TopicName", str)
TopicId = NewType("TopicId", bytes)  # 16 bytes, as the Kafka protocol carries them
NodeId = NewType("NodeId", int)

NO_TOPIC_ID: Final = TopicId(bytes(16))


class PartitionId(NamedTuple):
    """One partition of one topic. Keyed by the topic's id: a topic made again under an old name is another one."""

    topic_id: TopicId
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of it


def topic_id_text(topic_id: TopicId) -> str:
    """The 22 characters of base64 that Kafka's tools print for a topic id."""
    return urlsafe_b64encode(topic_id).rstrip(b"=").decode("ascii")


def topic_id_of_text(text: str) -> TopicId:
    """The id of what `topic_id_text` printed. Raises ValueError where it is not one."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise ValueError(f"not a topic id: {text!r}") from error
    if len(raw) != 16:
        raise ValueError(f"a topic id has 16 bytes, {text!r} has {len(raw)}")
    return TopicId(raw)
