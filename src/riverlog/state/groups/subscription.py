"""The topics in the metadata of a consumer (ConsumerProtocolSubscription): which offsets a group still needs.

Clients own this format; we read only its begin, and what cannot be read subscribes to an unknown set.
"""

from __future__ import annotations

from collections.abc import Iterable


def subscribed_topics(all_metadata: Iterable[bytes]) -> frozenset[str] | None:
    """The union of the members' topics. None: some metadata is not a subscription."""
    topics: set[str] = set()
    for metadata in all_metadata:
        position = 6
        count = int.from_bytes(metadata[2:position], "big", signed=True)
        if len(metadata) < position or count < 0:
            return None
        for _ in range(count):
            begin = position + 2
            length = int.from_bytes(metadata[position:begin], "big", signed=True)
            position = begin + length
            if length < 0 or position > len(metadata):
                return None
            try:
                topics.add(metadata[begin:position].decode())
            except UnicodeDecodeError:
                return None
    return frozenset(topics)
