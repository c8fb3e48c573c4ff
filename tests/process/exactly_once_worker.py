"""A consume-process-produce worker with confluent-kafka: `python exactly_once_worker.py BOOTSTRAP NAME=VALUE …`.

Each record of `source` becomes one of `target` in the same partition, its value in brackets; offsets and records are of one
transaction. On stdout it says each phase that it reaches. On stdin it may be told `hold PHASE`: there it says `held PHASE` and
waits for `go`. Ends with 0 when stdin ends, with 3 when it was fenced. Not to be imported: tests run it and kill it."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

records_max = 50
answer_seconds_max = 60.0


class Worker:
    def __init__(self, bootstrap: str, settings: dict[str, str]) -> None:
        self.target = settings["target"]
        self.hold: str | None = None
        self.standing = False
        self.told = b""
        self.ended = False
        # Without `metadata.recovery.strategy=none` librdkafka forgets its only broker while that is down, and then waits for
        # ever for the group's coordinator that it remembers (confluentinc/librdkafka#5511).
        common = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.max.ms": 200,
            "metadata.recovery.strategy": "none",
            "log_level": 3,
        }
        # The producer first: what an earlier worker left open is ended before its offsets are asked for.
        self.producer = Producer(
            {
                **common,
                "transactional.id": settings["transactional"],
                "transaction.timeout.ms": settings.get("timeout", "60000"),
                "linger.ms": 1,
            }
        )
        self.producer.init_transactions(answer_seconds_max)
        consuming = {
            **common,
            "group.id": settings["group"],
            "session.timeout.ms": settings.get("session", "1000"),
            "heartbeat.interval.ms": 100,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
        if "instance" in settings:
            consuming |= {"group.instance.id": settings["instance"], "session.timeout.ms": "30000"}
        self.consumer = Consumer(consuming)
        self.consumer.subscribe([settings["source"]])

    def say(self, phase: str) -> None:
        sys.stdout.write(f"{phase}\n")
        sys.stdout.flush()

    def reach(self, phase: str) -> None:
        """Says so, does what stdin asks, and waits where it was told to hold."""
        self.listen(0)
        self.say(phase)
        if phase == self.hold:
            self.say(f"held {phase}")
            self.standing = True
            while self.standing and not self.ended:
                self.listen(None)

    def listen(self, seconds: float | None) -> None:
        if self.ended or not select.select([0], [], [], seconds)[0]:
            return
        piece = os.read(0, 4096)
        self.ended = not piece
        self.told += piece
        while b"\n" in self.told:
            line, _, self.told = self.told.partition(b"\n")
            word, _, phase = line.decode().partition(" ")
            self.hold = phase if word == "hold" else None
            self.standing = False

    def work(self) -> None:
        while not self.ended:
            self.listen(0)
            if not (messages := self.poll()):
                continue
            try:
                self.process(messages)
            except KafkaException as failure:
                self.give_up(failure.args[0])

    def poll(self) -> list[Any]:
        """What there is, after a wait where there is nothing. One by one: librdkafka's batches lose sight of rebalances."""
        messages: list[Any] = []
        while len(messages) < records_max:
            if (one := self.consumer.poll(0 if messages else 0.1)) is None:
                break
            if one.error() is None:
                messages.append(one)
        return messages

    def process(self, messages: list[Any]) -> None:
        producer = self.producer
        producer.begin_transaction()
        self.reach("begun")
        following: dict[tuple[str, int], int] = {}
        for one in messages:
            producer.produce(self.target, b"[" + one.value() + b"]", partition=one.partition())
            following[one.topic(), one.partition()] = one.offset() + 1
        producer.flush(answer_seconds_max)
        self.reach("written")
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in following.items()]
        producer.send_offsets_to_transaction(offsets, self.consumer.consumer_group_metadata(), answer_seconds_max)
        self.reach("prepared")
        while True:
            try:
                producer.commit_transaction(answer_seconds_max)
                break
            except KafkaException as failure:
                if not failure.args[0].retriable():
                    raise
        self.reach("committed")

    def give_up(self, error: Any) -> None:
        """The transaction is aborted and its records are taken again; a fenced worker ends."""
        if error.fatal() or not error.txn_requires_abort():
            self.say(f"failed {error.name()}")
            sys.exit(3)
        self.producer.abort_transaction(answer_seconds_max)
        self.say(f"aborted {error.name()}")
        if assignment := self.consumer.assignment():
            for one in self.consumer.committed(assignment, answer_seconds_max):
                self.consumer.seek(one if one.offset >= 0 else TopicPartition(one.topic, one.partition, 0))


if __name__ == "__main__":
    Worker(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:])).work()
    os._exit(0)  # the group is told nothing: the tests' workers end like that anyway
