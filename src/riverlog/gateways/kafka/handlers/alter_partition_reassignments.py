"""AlterPartitionReassignments (api key 45). A partition's replicas can be this broker alone, which they are: to ask for that is
done at once, for anything else refused. v1 whether the replication factor may change, which it never does."""

from __future__ import annotations

from collections.abc import Sequence

from riverlog.base.ids import TopicName
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.schema.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import CLUSTER, Operation


@handles(ApiKey.ALTER_PARTITION_REASSIGNMENTS, versions=range(0, 2))
def alter_partition_reassignments(
    call: Call, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    if not call.broker.access.allows(call.caller, Operation.ALTER, CLUSTER):
        return AlterPartitionReassignmentsResponse(
            error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED, error_message="not allowed to move partitions"
        )
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_message=None,
        responses=[
            ReassignableTopicResponse(
                name=topic.name,
                partitions=[_result(call, topic.name, one.partition_index, one.replicas) for one in topic.partitions],
            )
            for topic in request.topics
        ],
    )


def _result(call: Call, name: str, index: int, replicas: Sequence[int] | None) -> ReassignablePartitionResponse:
    """`replicas` None cancels a move."""
    topic = call.broker.topics.by_name.get(TopicName(name))
    code, message = ErrorCode.NONE, None
    if topic is None or not 0 <= index < topic.partition_count:
        code, message = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition"
    elif replicas is None:
        code, message = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "the partition is not being moved"
    elif list(replicas) != [call.broker.node_id]:
        code = ErrorCode.INVALID_REPLICA_ASSIGNMENT
        message = f"broker {call.broker.node_id} is the only one: name it, once"
    return ReassignablePartitionResponse(partition_index=index, error_code=code, error_message=message)
