"""`python -m riverlog.demo.worker BOOTSTRAP`: consume, process, produce. It adds up flights and miles by carrier, exactly once.

Invariant: the sums of a batch and the offsets after it are of one transaction, so a batch counts whole and once, however often
the worker is killed. On stdout: `committed N`, the flights that this process has added up; with `--halt-after N` it stands
still once in an open transaction, all of it written, says `open N`, and waits there to be killed. It ends when its stdin does,
so that it outlives nobody. Not the one who kills it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from typing import Any, Final

from riverlog.demo.streaming import TOPIC, answer_seconds_max, log_level, messages_at_once, partition_count

SUMS: Final = "sums"  # the topic of what the batches add up to: carrier -> flights and miles
GROUP: Final = "adders"
TRANSACTIONAL_ID: Final = "adder"


def main() -> int:
    """Ends when each partition's end was reached and committed."""
    arguments = argparse.ArgumentParser(prog="python -m riverlog.demo.worker")
    arguments.add_argument("bootstrap")
    arguments.add_argument("--halt-after", type=int, metavar="N")
    given = arguments.parse_args()
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    Worker(given.bootstrap, given.halt_after).run()
    return 0


def _end_with_stdin() -> None:
    os.set_blocking(0, True)
    while os.read(0, 4096):
        pass
    os._exit(1)


class Worker:
    """One process of it. A second one with the same transactional id ends what the first left open."""

    def __init__(self, bootstrap: str, halt_after: int | None = None) -> None:
        from confluent_kafka import Consumer, Producer

        self.committed = 0
        self._halt_after = halt_after
        self._ended: set[int] = set()
        common = {"bootstrap.servers": bootstrap, "log_level": log_level}
        self._producer = Producer({**common, "transactional.id": TRANSACTIONAL_ID, "linger.ms": 1})
        self._producer.init_transactions(answer_seconds_max)
        self._consumer = Consumer(
            {
                **common,
                "group.id": GROUP,
                "group.instance.id": TRANSACTIONAL_ID,  # the second takes the first one's place at once
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        self._consumer.subscribe([TOPIC])

    def run(self) -> None:
        """Until the end of the topic."""
        while len(self._ended) < partition_count:
            if flights := self._consume():
                self._add_up(flights)
                self.committed += len(flights)
                _say(f"committed {self.committed}")
        self._consumer.close()

    def _consume(self) -> list[Any]:
        from confluent_kafka import KafkaError, KafkaException

        flights = []
        message: Any
        for message in self._consumer.consume(messages_at_once, 0.2):
            if (error := message.error()) is None:
                flights.append(message)
                self._ended.discard(message.partition())
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ended.add(message.partition())
            elif not error.retriable():
                raise KafkaException(error)
        return flights

    def _add_up(self, flights: list[Any]) -> None:
        from confluent_kafka import TopicPartition

        sums: dict[str, list[int]] = {}
        following: dict[int, int] = {}
        for message in flights:
            row = json.loads(message.value())
            of_carrier = sums.setdefault(row["carrier"], [0, 0])
            of_carrier[0] += 1
            of_carrier[1] += row["distance"]
            following[message.partition()] = message.offset() + 1
        producer = self._producer
        producer.begin_transaction()
        for carrier, numbers in sums.items():
            producer.produce(SUMS, json.dumps(numbers).encode(), carrier.encode())
        producer.flush(answer_seconds_max)
        offsets = [TopicPartition(TOPIC, partition, offset) for partition, offset in following.items()]
        producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), answer_seconds_max)
        if self._halt_after is not None and self.committed >= self._halt_after:
            _say(f"open {len(flights)}")
            threading.Event().wait()
        producer.commit_transaction(answer_seconds_max)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
