"""`riverlog transaction …`: what transactions there are, and ending one that nobody will end.

A transaction hangs where a partition has an open one of a producer whose coordinator knows of none there: readers of committed
records wait behind it for ever. Only such a one is aborted; of any other its coordinator says when it ends. The coordinator is
asked after the partition, and the partition once more: one that ended in between is not taken for a hanging one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from riverlog.cli.asking import TRANSACTION, Address, Cluster, name_of
from riverlog.cli.client import check_reachable
from riverlog.cli.errors import DONE, WRONG_USE, CommandError
from riverlog.cli.groups import spans
from riverlog.cli.output import print_json, print_table
from riverlog.cli.places import Partition
from riverlog.cli.positions import AtTime, parse_place
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_producers import DescribeProducersRequest, TopicRequest
from riverlog.gateways.kafka.schema.describe_transactions import DescribeTransactionsRequest
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_transactions import ListTransactionsRequest
from riverlog.gateways.kafka.schema.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)

# As requests have them; those that are written in small letters are ours.
_STATES: Final = {
    name.lower(): name
    for name in (
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "PrepareEpochFence",
    )
}
_IN_PARTITIONS: Final = frozenset({"ongoing", "preparecommit", "prepareabort", "prepareepochfence"})
_LISTED: Final = ("transaction", "state", "producer")
_OPEN: Final = ("topic", "partition", "start", "producer", "epoch", "last_write", "transaction", "hanging")
_NOBODY: Final[tuple[str | None, frozenset[Partition]]] = (None, frozenset())


class Open(NamedTuple):
    """An open transaction as its partition has it. `transaction` is None where no coordinator knows the producer."""

    partition: Partition
    leader: Address
    producer: int
    epoch: int
    coordinator_epoch: int
    start: int
    last_write_ms: int
    transaction: str | None
    is_hanging: bool


def show_all(states: Sequence[str], older_than: str | None, bootstrap: str, json: bool) -> int:
    if unknown := [one for one in states if one.lower() not in _STATES]:
        raise CommandError(f"--state {unknown[0]!r} is no state: give {', '.join(_STATES)}", WRONG_USE)
    check_reachable(bootstrap)
    duration_ms = -1 if older_than is None else _age_ms(older_than)
    with Cluster(bootstrap) as cluster:
        rows = [
            {"transaction": one.transactional_id, "state": one.transaction_state.lower(), "producer": one.producer_id}
            for one in listed(cluster, states=[_STATES[one.lower()] for one in states], duration_ms=duration_ms)
        ]
    if json:
        print_json(rows)
    else:
        print_table(_LISTED, [[row[name] for name in _LISTED] for row in rows])
    return DONE


def _age_ms(text: str) -> int:
    now_ms = time.time_ns() // 1_000_000
    try:
        place = parse_place(text, now_ms)
    except ValueError:
        place = None
    if not isinstance(place, AtTime):
        raise CommandError(f"--older-than {text!r} is no age: give 90s, 15m, 2h or 7d", WRONG_USE)
    return max(0, now_ms - place.timestamp_ms)


def listed(
    cluster: Cluster, *, states: Sequence[str] = (), producers: Sequence[int] = (), duration_ms: int = -1
) -> list[Any]:
    """From every broker, each of which coordinates some."""
    request = ListTransactionsRequest(state_filters=states, producer_id_filters=producers, duration_filter=duration_ms)
    found = []
    for address in cluster.brokers():
        answer = cluster.ask(address, ApiKey.LIST_TRANSACTIONS, request)
        if answer.error_code:
            raise CommandError(f"the broker lists no transactions: {name_of(answer.error_code)}")
        found += answer.transaction_states
    return sorted(found, key=lambda one: str(one.transactional_id))


def describe(names: Sequence[str], bootstrap: str, json: bool) -> int:
    now_ms = time.time_ns() // 1_000_000
    with Cluster(bootstrap) as cluster:
        found = [_description(cluster, name, now_ms) for name in names]
    if json:
        print_json(found)
        return DONE
    columns = ("topic", "partitions")
    for number, one in enumerate(found):
        if number:
            print()
        since = f", open for {one['age_s']:.0f} s" if one["age_s"] is not None else ""
        title = (
            f"transaction {one['transaction']}, {one['state']}{since}, producer {one['producer']} epoch {one['epoch']}, "
            f"time-out {one['timeout_ms'] / 1000:g} s"
        )
        print_table(columns, [(each["topic"], spans(each["partitions"])) for each in one["topics"]], title=title)
    return DONE


def _description(cluster: Cluster, name: str, now_ms: int) -> dict[str, Any]:
    one = described(cluster, name)
    if one.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
        raise CommandError(f"there is no transactional id {name!r}: `riverlog transaction list` shows what there is")
    if one.error_code:
        raise CommandError(f"the broker does not describe transaction {name!r}: {name_of(one.error_code)}")
    started_ms = one.transaction_start_time_ms if one.transaction_start_time_ms >= 0 else None
    return {
        "transaction": name,
        "state": one.transaction_state.lower(),
        "producer": one.producer_id,
        "epoch": one.producer_epoch,
        "timeout_ms": one.transaction_timeout_ms,
        "started": _time(started_ms),
        "age_s": None if started_ms is None else max(0, now_ms - started_ms) / 1000,
        "topics": [
            {"topic": each.topic, "partitions": sorted(each.partitions)}
            for each in sorted(one.topics, key=lambda each: str(each.topic))
        ],
    }


def _time(timestamp_ms: int | None) -> str | None:
    if timestamp_ms is None:
        return None
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def described(cluster: Cluster, name: str) -> Any:
    request = DescribeTransactionsRequest(transactional_ids=[name])
    answer = cluster.ask_coordinator(
        TRANSACTION, name, ApiKey.DESCRIBE_TRANSACTIONS, request, lambda it: int(it.transaction_states[0].error_code)
    )
    return answer.transaction_states[0]


def show_open(topics: Sequence[str], hanging: bool, bootstrap: str, json: bool) -> int:
    """What partitions have open, with who will end it."""
    with Cluster(bootstrap) as cluster:
        rows = [_row(one) for one in open_in(cluster, topics) if one.is_hanging or not hanging]
    if json:
        print_json(rows)
    else:
        told = [{**row, "hanging": "yes" if row["hanging"] else "no"} for row in rows]
        print_table(_OPEN, [["-" if row[name] is None else row[name] for name in _OPEN] for row in told])
    return DONE


def _row(one: Open) -> dict[str, Any]:
    return {
        "topic": one.partition[0], "partition": one.partition[1], "start": one.start, "producer": one.producer,
        "epoch": one.epoch, "last_write": _time(one.last_write_ms), "transaction": one.transaction,
        "hanging": one.is_hanging,
    }  # fmt: skip


def open_in(cluster: Cluster, topics: Sequence[str]) -> list[Open]:
    """Of these topics, or of all. Raises CommandError for one that is not there."""
    leaders = cluster.leaders()
    if missing := [one for one in topics if not any(topic == one for topic, _ in leaders)]:
        raise CommandError(f"there is no topic {missing[0]!r}: `riverlog topic list` shows what there is")
    wanted = {one: leader for one, leader in leaders.items() if not topics or one[0] in topics}
    found = [
        (one, state) for one, each in _producers(cluster, wanted) for state in each.active_producers if _is_open(state)
    ]
    known = _known(cluster, {state.producer_id for _, state in found})
    suspects = {(one, _identity(state)) for one, state in found if one not in known.get(state.producer_id, _NOBODY)[1]}
    again = _producers(cluster, {one: wanted[one] for one, _ in suspects})
    still = {(one, _identity(state)) for one, each in again for state in each.active_producers if _is_open(state)}
    return [
        Open(
            partition=one, leader=wanted[one], producer=state.producer_id, epoch=state.producer_epoch,
            coordinator_epoch=state.coordinator_epoch, start=state.current_txn_start_offset,
            last_write_ms=state.last_timestamp, transaction=known.get(state.producer_id, _NOBODY)[0],
            is_hanging=(one, _identity(state)) in suspects,
        )
        for one, state in sorted(found, key=lambda each: (each[0], each[1].current_txn_start_offset))
        if (one, _identity(state)) not in suspects - still
    ]  # fmt: skip


def _is_open(state: Any) -> bool:
    return int(state.current_txn_start_offset) >= 0


def _identity(state: Any) -> tuple[int, int]:
    return state.producer_id, state.current_txn_start_offset


def _producers(cluster: Cluster, wanted: Mapping[Partition, Address]) -> Iterable[tuple[Partition, Any]]:
    """Each partition with the producers that it knows."""
    for address in dict.fromkeys(wanted.values()):
        of_leader = [one for one, leader in wanted.items() if leader == address]
        request = DescribeProducersRequest(
            topics=[
                TopicRequest(name=topic, partition_indexes=[at for name, at in of_leader if name == topic])
                for topic in dict.fromkeys(topic for topic, _ in of_leader)
            ]
        )
        answer = cluster.ask(address, ApiKey.DESCRIBE_PRODUCERS, request)
        for topic in answer.topics:
            for one in topic.partitions:
                if one.error_code:
                    where = f"{topic.name} partition {one.partition_index}"
                    raise CommandError(f"{where} does not tell its producers: {name_of(one.error_code)}")
                yield (topic.name, one.partition_index), one


def _known(cluster: Cluster, producers: set[int]) -> dict[int, tuple[str | None, frozenset[Partition]]]:
    """Producer id -> its transactional id, and the partitions that its coordinator is going to end it in."""
    if not producers:
        return {}
    known: dict[int, tuple[str | None, frozenset[Partition]]] = {}
    for one in listed(cluster, producers=sorted(producers)):
        state = described(cluster, one.transactional_id)
        is_open = state.error_code == 0 and state.transaction_state.lower() in _IN_PARTITIONS
        partitions = {(each.topic, at) for each in state.topics for at in each.partitions} if is_open else ()
        known[one.producer_id] = one.transactional_id, frozenset(partitions)
    return known


def abort(topic: str, partition: int, start: int, execute: bool, bootstrap: str, json: bool) -> int:
    """The hanging one that begins at that offset; says what it would do without `execute`."""
    with Cluster(bootstrap) as cluster:
        one = _to_abort(open_in(cluster, [topic]), (topic, partition), start)
        if execute:
            _abort(cluster, one)
    if json:
        print_json({"executed": execute, **_row(one)})
        return DONE
    print_table(_OPEN[:6], [[_row(one)[name] for name in _OPEN[:6]]])
    print("it is aborted now" if execute else "nothing was changed: --execute aborts it")
    return DONE


def _to_abort(found: Sequence[Open], partition: Partition, start: int) -> Open:
    """Raises CommandError where there is none, or where it does not hang."""
    there = [one for one in found if one.partition == partition]
    where = f"{partition[0]} partition {partition[1]}"
    for one in there:
        if one.start != start:
            continue
        if not one.is_hanging:
            raise CommandError(
                f"the transaction at offset {start} of {where} does not hang: its coordinator ends it with {one.transaction!r}, "
                f"and an abort here would tear it; `riverlog transaction describe {one.transaction}` has its time-out"
            )
        return one
    starts = ", ".join(f"{one.start}" for one in there)
    raise CommandError(
        f"no open transaction begins at offset {start} of {where}: "
        + (f"there are {starts}" if starts else "there is none")
    )


def _abort(cluster: Cluster, one: Open) -> None:
    topic, partition = one.partition
    marker = WritableTxnMarker(
        producer_id=one.producer, producer_epoch=one.epoch, transaction_result=False,
        topics=[WritableTxnMarkerTopic(name=topic, partition_indexes=[partition])],
        coordinator_epoch=max(0, one.coordinator_epoch),
    )  # fmt: skip
    answer = cluster.ask(one.leader, ApiKey.WRITE_TXN_MARKERS, WriteTxnMarkersRequest(markers=[marker]))
    if code := answer.markers[0].topics[0].partitions[0].error_code:
        raise CommandError(f"{topic} partition {partition} refuses the abort: {name_of(code)}")
