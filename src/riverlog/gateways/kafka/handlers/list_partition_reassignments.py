"""ListPartitionReassignments (api key 46). Partitions that are being moved from broker to broker: never any. One version, v0."""

from __future__ import annotations

from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from riverlog.state.access import CLUSTER, Operation


@handles(ApiKey.LIST_PARTITION_REASSIGNMENTS, versions=range(0, 1))
def list_partition_reassignments(
    call: Call, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    if not call.broker.access.allows(call.caller, Operation.DESCRIBE, CLUSTER):
        return ListPartitionReassignmentsResponse(
            error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED, error_message="not allowed to see moves of partitions"
        )
    return ListPartitionReassignmentsResponse(error_message=None)
