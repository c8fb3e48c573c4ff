"""WriteTxnMarkers: an operator ends a transaction that hangs."""

from __future__ import annotations

from typing import Any

import pytest

from riverlog.gateways.kafka.handlers import write_txn_markers
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from riverlog.state.access import DenyAll
from tests.transaction_calls import Transactional, play

assert write_txn_markers.write_txn_markers


async def write(client: Transactional, version: int, *markers: dict[str, Any]) -> list[tuple[int, str, int, int]]:
    """Producer id, topic, partition and error code of each."""
    request = WriteTxnMarkersRequest(
        markers=[
            WritableTxnMarker(
                producer_id=client.producer_id,
                producer_epoch=marker.get("epoch", client.epoch),
                transaction_result=False,
                coordinator_epoch=marker.get("coordinator_epoch", 50),
                topics=[WritableTxnMarkerTopic(name=name, partition_indexes=each) for name, each in marker["topics"]],
            )
            for marker in markers
        ]
    )
    answer = await client.calls.ask(ApiKey.WRITE_TXN_MARKERS, version, request)
    return [
        (marker.producer_id, topic.name, one.partition_index, one.error_code)
        for marker in answer.markers
        for topic in marker.topics
        for one in topic.partitions
    ]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_each_partition_is_answered(version: int, late: bool) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        assert await client.produce() == 0
        assert not client.is_stable()
        written = await write(
            client, version, {"topics": [("t", [0, 9]), ("nothing", [0])]}, {"topics": [("input", [0])]}
        )
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        producer_id = client.producer_id
        assert written == [
            (producer_id, "t", 0, 0),
            (producer_id, "t", 9, unknown),
            (producer_id, "nothing", 0, unknown),
            (producer_id, "input", 0, 0),
        ]
        assert client.is_stable()

    play(story, late=late)


def test_earlier_epochs_end_nothing() -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        await client.init()
        assert await client.produce() == 0
        stale = {"topics": [("t", [0])], "epoch": client.epoch - 1}
        assert (await write(client, 2, stale))[0][3] == ErrorCode.INVALID_PRODUCER_EPOCH
        await client.end(committed=True)
        await client.add(("t", [1]))
        zombie = {"topics": [("t", [0])], "epoch": client.epoch + 1, "coordinator_epoch": 0}
        assert (await write(client, 2, zombie))[0][3] == ErrorCode.TRANSACTION_COORDINATOR_FENCED

    play(story)


def test_denied() -> None:
    async def story(client: Transactional) -> None:
        written = await write(client, 1, {"topics": [("t", [0, 1])]})
        assert [code for *_, code in written] == [ErrorCode.CLUSTER_AUTHORIZATION_FAILED] * 2

    play(story, denied=DenyAll())
