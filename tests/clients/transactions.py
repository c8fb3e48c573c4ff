"""What the tests of transactions share, whichever client writes: a reader that both brokers can be trusted to be seen by.

Invariant: a read ends where the broker says that the partition ends for this isolation level, never after a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

seconds_max: Final = 30.0
QUIET: Final = logging.getLogger("tests.clients.transactions")  # a client that is fenced on purpose says a lot
QUIET.setLevel(logging.CRITICAL + 1)


def read(bootstrap: str, topic: str, *, partitions: int = 1, committed: bool = True) -> list[list[str]]:
    """The values of each partition, from its beginning to its end as this isolation level sees it."""
    level = "read_committed" if committed else "read_uncommitted"
    settings = {"group.id": "transactions-reader", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({"bootstrap.servers": bootstrap, "isolation.level": level, **settings}, logger=QUIET)
    found: list[list[str]] = [[] for _ in range(partitions)]
    ended: set[int] = set()
    deadline = time.monotonic() + seconds_max
    try:
        consumer.assign([TopicPartition(topic, index, OFFSET_BEGINNING) for index in range(partitions)])
        while len(ended) < partitions:
            assert time.monotonic() < deadline, f"no end of {topic} within {seconds_max:.0f} s: {ended}, {found}"
            message = consumer.poll(0.2)
            if message is None:
                continue
            if (error := message.error()) is None:
                found[message.partition()].append((message.value() or b"").decode())
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                assert error.retriable(), error
    finally:
        consumer.close()
    return found


def read_one(bootstrap: str, topic: str, *, committed: bool = True) -> list[str]:
    """The values of a topic of one partition."""
    return read(bootstrap, topic, committed=committed)[0]


def committed_offset(bootstrap: str, group: str, topic: str, partition: int = 0) -> int:
    """What the group has committed, as a consumer that wants stable offsets is told; -1001 where there is nothing."""
    settings = {"group.id": group, "isolation.level": "read_committed"}
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings}, logger=QUIET)
    try:
        (answer,) = consumer.committed([TopicPartition(topic, partition)], seconds_max)
        assert answer.error is None, answer.error
        offset: int = answer.offset
        return offset
    finally:
        consumer.close()


def wait_until(what: Callable[[], Any], *, seconds: float = seconds_max) -> Any:
    """What `what` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)
    return found
