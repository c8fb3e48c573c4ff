"""WriteTxnMarkers (api key 27). Ends transactions past their coordinator, for `kafka-transactions abort` of one that hangs.

v1 flexible, v2 says the transaction version (nothing here depends on it). Our own coordinator needs no message for its markers.
"""

from __future__ import annotations

from riverlog.base.errors import RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.write_txn_markers import (
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from riverlog.state.access import ResourceKind
from riverlog.state.transactions.commands import Producer


@handles(ApiKey.WRITE_TXN_MARKERS, versions=range(1, 3))
async def write_txn_markers(call: Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
    markers = [
        (
            topic.name,
            index,
            Producer(marker.producer_id, marker.producer_epoch),
            marker.transaction_result,
            marker.coordinator_epoch,
        )
        for marker in request.markers
        for topic in marker.topics
        for index in topic.partition_indexes
    ]
    try:
        errors = await call.broker.transactions.write_markers(call.caller, markers)
        codes = [0 if error is None else int(error_code(error, ResourceKind.TOPIC)) for error in errors]
    except RiverlogError as refusal:
        codes = [int(error_code(refusal, ResourceKind.CLUSTER))] * len(markers)
    each = iter(codes)
    return WriteTxnMarkersResponse(
        markers=[
            WritableTxnMarkerResult(
                producer_id=marker.producer_id,
                topics=[
                    WritableTxnMarkerTopicResult(
                        name=topic.name,
                        partitions=[
                            WritableTxnMarkerPartitionResult(partition_index=index, error_code=next(each))
                            for index in topic.partition_indexes
                        ],
                    )
                    for topic in marker.topics
                ],
            )
            for marker in request.markers
        ]
    )
