"""Members of groups on threads, through confluent-kafka, and a ledger of who owns what.

Invariant: a partition that a member is given while another has it is noted in `Ledger.shared`; a record of a partition that its
reader does not own is noted in `Ledger.strays`. Both are empty at the end of every test that uses them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

Partition = tuple[str, int]
QUIET: Final = logging.getLogger("tests.clients.members")  # what a client says while its broker is away
QUIET.setLevel(logging.CRITICAL + 1)
seconds_max: Final = 60.0
TRANSIENT: Final = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)


class Ledger:
    """Who owns each partition, and what has been read of it. Members write from their threads."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.owners: dict[Partition, Member] = {}
        self.read: Counter[tuple[str, int, int]] = Counter()  # topic, partition, offset
        self.shared: list[str] = []
        self.strays: list[str] = []

    def take(self, member: Member, partitions: Sequence[TopicPartition]) -> None:
        with self.changed:
            for one in partitions:
                owner = self.owners.get((one.topic, one.partition))
                if owner not in (None, member):
                    self.shared.append(f"{one.topic}-{one.partition} went to {member.name} while {owner.name} had it")
                self.owners[one.topic, one.partition] = member
            self.changed.notify_all()

    def drop(self, member: Member, partitions: Sequence[TopicPartition]) -> None:
        with self.changed:
            for one in partitions:
                if self.owners.get((one.topic, one.partition)) is member:
                    del self.owners[one.topic, one.partition]
            self.changed.notify_all()

    def note(self, member: Member, topic: str, partition: int, offset: int) -> None:
        with self.changed:
            if self.owners.get((topic, partition)) is not member:
                self.strays.append(f"{member.name} has read {topic}-{partition} at {offset} and does not own it")
            self.read[topic, partition, offset] += 1
            self.changed.notify_all()

    def of(self, member: Member) -> set[Partition]:
        with self.changed:
            return {partition for partition, owner in self.owners.items() if owner is member}

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        with self.changed:
            if not self.changed.wait_for(done, seconds_max):
                owners = {f"{topic}-{at}": owner.name for (topic, at), owner in sorted(self.owners.items())}
                raise AssertionError(f"{what} is not so after {seconds_max} s: {owners}, {len(self.read)} records read")

    def wait_for_shares(self, *shares: int, topic: str | None = None) -> None:
        """Until so many partitions are with each member that has any; the order of the members does not matter."""

        def have() -> list[int]:
            counts = Counter(owner for (name, _), owner in self.owners.items() if topic in (None, name))
            return sorted(counts.values())

        self.wait_for(lambda: have() == sorted(shares), f"shares of {shares}")

    def wait_for_records(self, count: int) -> None:
        self.wait_for(lambda: len(self.read) >= count, f"{count} records")

    def check(self) -> None:
        assert self.shared == []
        assert self.strays == []


class Member(threading.Thread):
    """A consumer that polls until it is told to end, commits what it has read, and leaves."""

    def __init__(
        self, ledger: Ledger, bootstrap: str, group: str, topics: Sequence[str], name: str, **config: str
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.ledger = ledger
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.given: list[list[Partition]] = []  # each assignment, as it came
        self.taken: list[list[Partition]] = []  # each revocation or loss, but for the one of leaving
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "client.id": name,
                "auto.offset.reset": "earliest",
                "auto.commit.interval.ms": "200",
                "topic.metadata.refresh.interval.ms": "500",
                "reconnect.backoff.max.ms": "200",
                **config,
            },
            logger=QUIET,
        )
        self.consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.given.append([(one.topic, one.partition) for one in partitions])
        self.ledger.take(self, partitions)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if not self.ending.is_set():
            self.taken.append([(one.topic, one.partition) for one in partitions])
        self.ledger.drop(self, partitions)

    def run(self) -> None:
        try:
            while not self.ending.is_set():
                message = self.consumer.poll(0.05)
                if message is None:
                    continue
                if (error := message.error()) is None:
                    self.ledger.note(self, message.topic(), message.partition(), message.offset())
                elif error.code() not in TRANSIENT:
                    raise KafkaException(error)
        except BaseException as failure:
            self.failure = failure
        finally:
            self.consumer.close()

    def end(self) -> None:
        """Leaves the group, and raises what it failed with."""
        self.ending.set()
        self.join(seconds_max)
        assert not self.is_alive(), f"{self.name} does not end"
        if self.failure is not None:
            raise self.failure


class Company:
    """The members of one group."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str], stack: ExitStack) -> None:
        self.bootstrap = bootstrap
        self.group = group
        self.topics = topics
        self.ledger = Ledger()
        self._stack = stack
        self._count = 0

    def join(self, *, topics: Sequence[str] = (), protocol: str = "consumer", **config: str) -> Member:
        """One more. `config` has underscores for dots."""
        self._count += 1
        settings = {name.replace("_", "."): value for name, value in config.items()}
        member = Member(
            self.ledger, self.bootstrap, self.group, topics or self.topics, f"{protocol}-{self._count}",
            **{"group.protocol": protocol, **settings},
        )  # fmt: skip
        self._stack.callback(member.end)
        member.start()
        return member


@contextmanager
def company(bootstrap: str, group: str, *topics: str) -> Iterator[Company]:
    """Everybody has left at its end, nobody has failed, and no partition had two owners."""
    with ExitStack() as stack:
        made = Company(bootstrap, group, topics, stack)
        yield made
    made.ledger.check()


def produce(bootstrap: str, topic: str, partitions: int, count: int, *, at: int = 0) -> None:
    """`count` records to each partition, acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number in range(count):
        for partition in range(partitions):
            producer.produce(topic, b"%d" % (at + number), partition=partition)
    assert producer.flush(seconds_max) == 0


class Stream(threading.Thread):
    """A producer that writes to every partition in turn until it is ended; `sent` is what was acknowledged."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        super().__init__(name="stream", daemon=True)
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0}, logger=QUIET)
        self.topic = topic
        self.partitions = partitions
        self.ending = threading.Event()
        self.sent: set[tuple[str, int, int]] = set()

    def run(self) -> None:
        number = 0
        while not self.ending.wait(0.005):
            self.producer.produce(
                self.topic, b"%d" % number, partition=number % self.partitions, on_delivery=self._told
            )
            self.producer.poll(0)
            number += 1

    def _told(self, error: KafkaError | None, message: object) -> None:
        if error is None:
            self.sent.add((message.topic(), message.partition(), message.offset()))  # type: ignore[attr-defined]

    def end(self) -> set[tuple[str, int, int]]:
        self.ending.set()
        self.join(seconds_max)
        assert self.producer.flush(seconds_max) == 0
        return self.sent


def until(done: Callable[[], bool], what: str, *, seconds: float = seconds_max) -> None:
    """Asks again and again, for what nobody tells of."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what} is not so after {seconds} s"
        time.sleep(0.02)
