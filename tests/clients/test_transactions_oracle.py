"""The same requests to Apache Kafka and to riverlog: producers of transactional ids are given the same epochs and errors.

Each story is played on both brokers over plain sockets. Producer ids are compared by the order in which they appear. What
says "ask again" is asked again, so that the waiting of either broker does not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

import riverlog
from benchmarks.peers import kafka
from riverlog.gateways.kafka.schema import (
    add_partitions_to_txn,
    create_topics,
    describe_transactions,
    end_txn,
    find_coordinator,
    init_producer_id,
    metadata,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.wire import Message
from tests.clients.test_groups_oracle import Connection

pytestmark = [pytest.mark.oracle, pytest.mark.slow, pytest.mark.timeout(300)]

Producer = tuple[int, int]
STRANGER: Final = 1_000_000_007
NOBODY: Final[Producer] = (-1, -1)
ASK_AGAIN: Final = {
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
}
ask_again_seconds_max: Final = 60.0
story_numbers = count(1)


class Player:
    """Plays a story on one broker, and writes down every answer in a form that can be compared."""

    def __init__(self, address: str) -> None:
        self.connection = Connection(address)
        self.transactional_id = f"story-{next(story_numbers)}"
        self.names: dict[int, str] = {-1: "none", STRANGER: "a stranger"}
        self.answers: list[tuple[str, object]] = []

    def note(self, label: str, error_code: int, *facts: object) -> None:
        self.answers.append((f"{len(self.answers)} {label}", (ErrorCode(error_code).name, *facts)))

    def named(self, producer_id: int, epoch: int) -> tuple[str, int]:
        return self.names.setdefault(producer_id, f"P{len(self.names)}"), epoch

    def ask(self, api_key: ApiKey, version: int, request: Message, code: Callable[[Any], int]) -> Any:
        until = time.monotonic() + ask_again_seconds_max
        while True:
            answer = self.connection.ask(api_key, version, request)
            if code(answer) not in ASK_AGAIN or time.monotonic() > until:
                return answer
            time.sleep(0.05)

    def init(self, expected: Producer = NOBODY, *, timeout_ms: int = 60_000, version: int = 5) -> Producer:
        request = init_producer_id.InitProducerIdRequest(
            transactional_id=self.transactional_id,
            transaction_timeout_ms=timeout_ms,
            producer_id=expected[0],
            producer_epoch=expected[1],
        )
        answer = self.ask(ApiKey.INIT_PRODUCER_ID, version, request, lambda answer: int(answer.error_code))
        producer = (answer.producer_id, answer.producer_epoch)
        self.note(f"init {self.named(*expected)}", answer.error_code, answer.error_code or self.named(*producer))
        return producer

    def add(self, producer: Producer, *partitions: int, version: int = 5, verify_only: bool = False) -> None:
        """From version 4 on what brokers ask of each other; 5 is what a produce of version 2 makes them ask."""
        topics = [add_partitions_to_txn.AddPartitionsToTxnTopic(name="t", partitions=partitions)]
        if version < 4:
            request = add_partitions_to_txn.AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self.transactional_id,
                v3_and_below_producer_id=producer[0],
                v3_and_below_producer_epoch=producer[1],
                v3_and_below_topics=topics,
            )
        else:
            one = add_partitions_to_txn.AddPartitionsToTxnTransaction(
                transactional_id=self.transactional_id,
                producer_id=producer[0],
                producer_epoch=producer[1],
                verify_only=verify_only,
                topics=topics,
            )
            request = add_partitions_to_txn.AddPartitionsToTxnRequest(transactions=[one])

        def results(answer: Any) -> list[Any]:
            made = answer.results_by_topic_v3_and_below
            if version >= 4:
                (transaction,) = answer.results_by_transaction
                made = transaction.topic_results
            (topic,) = made
            return sorted(topic.results_by_partition, key=lambda one: int(one.partition_index))

        def code(answer: Any) -> int:
            return int(answer.error_code or results(answer)[0].partition_error_code)

        answer = self.ask(ApiKey.ADD_PARTITIONS_TO_TXN, version, request, code)
        errors = [(one.partition_index, ErrorCode(one.partition_error_code).name) for one in results(answer)]
        what = "verify" if verify_only else "add"
        self.note(f"{what} {self.named(*producer)} {partitions} v{version}", answer.error_code, errors)

    def end(self, producer: Producer, committed: bool, *, version: int = 5) -> Producer:
        request = end_txn.EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=producer[0],
            producer_epoch=producer[1],
            committed=committed,
        )
        answer = self.ask(ApiKey.END_TXN, version, request, lambda answer: int(answer.error_code))
        following = (answer.producer_id, answer.producer_epoch)
        what = "commit" if committed else "abort"
        self.note(
            f"{what} {self.named(*producer)} v{version}", answer.error_code, answer.error_code or self.named(*following)
        )
        return following

    def describe(self) -> str:
        """Once the markers are written."""
        request = describe_transactions.DescribeTransactionsRequest(transactional_ids=[self.transactional_id])

        def code(answer: Any) -> int:
            (state,) = answer.transaction_states
            is_prepared = state.transaction_state.startswith("Prepare")
            return int(ErrorCode.CONCURRENT_TRANSACTIONS if is_prepared else state.error_code)

        (state,) = self.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, request, code).transaction_states
        partitions = [(topic.topic, sorted(topic.partitions)) for topic in state.topics]
        producer = state.error_code or self.named(state.producer_id, state.producer_epoch)
        self.note(
            "state", state.error_code, state.transaction_state, producer, state.transaction_timeout_ms, partitions
        )
        return str(state.transaction_state)

    def wait_for_time_out(self) -> None:
        until = time.monotonic() + ask_again_seconds_max
        while self.describe() == "Ongoing" and time.monotonic() < until:
            self.answers.pop()
            time.sleep(0.1)


def story_of_inits(p: Player) -> None:
    p.describe()
    for timeout_ms in (0, -1, 900_001):
        p.init(timeout_ms=timeout_ms)
    first = p.init()
    p.describe()
    second = p.init(timeout_ms=30_000)
    p.describe()
    p.init(first)
    third = p.init(second)
    p.init(second)
    p.init(second)
    p.describe()
    fourth = p.init()
    for stale in (first, second, third, (fourth[0], fourth[1] + 1), (STRANGER, 0), (STRANGER, fourth[1])):
        p.init(stale)
    p.describe()
    p.init(version=1)
    p.describe()


def story_of_an_id_that_is_new_to_its_producer(p: Player) -> None:
    p.init((STRANGER, 3))
    p.describe()


def story_of_nobody(p: Player) -> None:
    for version in (3, 5):
        p.add((STRANGER, 0), 0, version=version)
        p.end((STRANGER, 0), True, version=version)
        p.end((STRANGER, 0), False, version=version)
    p.add((STRANGER, 0), 0, version=4, verify_only=True)
    p.end((-1, -1), True)
    p.init()
    for version in (3, 5):
        for committed in (True, False):
            p.end((STRANGER, 0), committed, version=version)
            p.end((-1, -1), committed, version=version)
        p.add((STRANGER, 0), 0, version=version)
    p.describe()


def story_of_older_clients(p: Player) -> None:
    a = p.init(version=3)
    p.end(a, True, version=3)
    p.end(a, False, version=3)
    for committed in (True, False, True):
        p.add(a, 0, version=3)
        p.add(a, 0, 1, version=3)
        p.add(a, 0, 1, 2, version=4, verify_only=True)
        p.describe()
        for wrong in ((a[0], a[1] + 1), (STRANGER, a[1])):
            p.add(wrong, 2, version=3)
            p.add(wrong, 2, version=4, verify_only=True)
            p.end(wrong, committed, version=3)
        p.end(a, committed, version=3)
        p.end(a, committed, version=3)
        p.end(a, not committed, version=3)
        p.describe()
        p.end(a, committed, version=3)
        p.end(a, not committed, version=3)
        p.add(a, 0, version=4, verify_only=True)
    b = p.init(a, version=3)
    p.end(a, True, version=3)
    p.end(b, True, version=3)
    p.add(a, 0, version=3)
    p.describe()


def story_of_clients_of_today(p: Player) -> None:
    a = p.init()
    p.end(a, True)
    for committed in (True, False, True):
        p.add(a, 0)
        p.add(a, 0, 1)
        p.describe()
        for wrong in ((a[0], a[1] + 1), (STRANGER, a[1])):
            p.add(wrong, 2)
            p.end(wrong, committed)
        b = p.end(a, committed)
        p.end(a, committed)
        p.end(a, not committed)
        p.describe()
        p.end(a, committed)
        p.end(a, not committed)
        p.end(b, True)
        p.add(a, 0)
        a = b
    p.init(a)
    p.describe()


def story_of_aborts_of_nothing(p: Player) -> None:
    a = p.init()
    b = p.end(a, False)
    p.describe()
    p.end(a, False)
    p.end(a, True)
    c = p.end(b, False)
    p.describe()
    p.end(a, False)
    p.add(c, 0)
    p.end(b, False)
    d = p.end(c, True)
    p.describe()
    e = p.end(d, False)
    p.describe()
    p.end(e, True)
    p.init(d)
    p.init(e)
    p.describe()


def story_of_fencing(p: Player) -> None:
    old = p.init()
    p.add(old, 0)
    p.init((STRANGER, 0))
    p.describe()
    new = p.init()
    p.describe()
    p.add(old, 0)
    p.add(old, 0, version=3)
    for version in (3, 5):
        p.end(old, True, version=version)
        p.end(old, False, version=version)
    p.init(old)
    p.add(new, 1, version=3)
    p.init(version=3)
    p.describe()


def story_of_a_commit_and_an_init(p: Player) -> None:
    a = p.init()
    p.add(a, 0)
    b = p.end(a, True)
    p.init(b)
    p.describe()
    p.end(a, True)
    p.end(b, True)
    p.init()
    p.init(b)
    p.describe()


def story_of_a_time_out(p: Player) -> None:
    a = p.init(timeout_ms=500)
    p.add(a, 0)
    p.wait_for_time_out()
    p.add(a, 0)
    p.end(a, True, version=3)
    p.end(a, True)
    b = p.end(a, False)
    p.end(b, True)
    p.add(b, 0)
    p.wait_for_time_out()
    p.init()
    p.describe()


STORIES: Final[Sequence[Callable[[Player], None]]] = (
    story_of_inits,
    story_of_an_id_that_is_new_to_its_producer,
    story_of_nobody,
    story_of_older_clients,
    story_of_clients_of_today,
    story_of_aborts_of_nothing,
    story_of_fencing,
    story_of_a_commit_and_an_init,
    story_of_a_time_out,
)


def prepare(address: str) -> None:
    """Topic t, and a coordinator that is awake."""
    connection = Connection(address)
    topic = create_topics.CreatableTopic(name="t", num_partitions=4, replication_factor=1)
    request = create_topics.CreateTopicsRequest(topics=[topic], timeout_ms=10_000)
    (made,) = connection.ask(ApiKey.CREATE_TOPICS, 7, request).topics
    assert made.error_code == 0
    wanted = metadata.MetadataRequest(topics=[metadata.MetadataRequestTopic(name="t")])
    key = find_coordinator.FindCoordinatorRequest(key_type=1, coordinator_keys=["story"])
    for _ in range(600):
        known = connection.ask(ApiKey.METADATA, 12, wanted).topics[0].error_code == 0
        if known and connection.ask(ApiKey.FIND_COORDINATOR, 4, key).coordinators[0].error_code == 0:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{address} does not get ready")
    connection.socket.close()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[str]]:
    """Addresses of Kafka and ours."""
    if (missing := kafka.missing()) is not None:
        if "java" in os.environ.get("RIVERLOG_REQUIRE", ""):
            pytest.fail(missing)
        pytest.skip(missing)
    directory: Path = tmp_path_factory.mktemp("kafka")
    settings = {
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",
    }
    with kafka.Kafka(directory, settings=settings) as theirs, riverlog.Broker() as ours:
        addresses = (theirs.bootstrap, ours.bootstrap_servers)
        for address in addresses:
            prepare(address)
        yield addresses


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_answers_are_alike(story: Callable[[Player], None], brokers: Sequence[str]) -> None:
    played = []
    for address in brokers:
        player = Player(address)
        try:
            story(player)
        finally:
            player.connection.socket.close()
        played.append(player.answers)
    theirs, ours = (dict(answers) for answers in played)
    different = [(label, theirs.get(label), ours.get(label)) for label in {**theirs, **ours}]
    lines = [f"{label}\n  Kafka    {one}\n  riverlog {two}" for label, one, two in different if one != two]
    assert not lines, "\n".join(lines)
