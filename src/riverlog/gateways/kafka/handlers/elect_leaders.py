"""ElectLeaders (api key 43). Every partition's one replica leads already, so no election is ever needed.

v1 kinds of elections and an error for the whole; v2 flexible. Null means all partitions: of those only the ones that needed an
election would be told, so there are none.
"""

from __future__ import annotations

from typing import Final

from riverlog.base.ids import TopicName
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import CLUSTER, Operation

ELECTION_TYPES: Final = (0, 1)  # of the preferred replica; of one that is not in sync


@handles(ApiKey.ELECT_LEADERS, versions=range(0, 3))
def elect_leaders(call: Call, request: ElectLeadersRequest) -> ElectLeadersResponse:
    refusal = ErrorCode.NONE
    if not call.broker.access.allows(call.caller, Operation.ALTER, CLUSTER):
        refusal = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
    elif request.election_type not in ELECTION_TYPES:
        refusal = ErrorCode.INVALID_REQUEST
    results = [
        ReplicaElectionResult(
            topic=topic.topic,
            partition_result=[_result(refusal or _code(call, topic.topic, index), index) for index in topic.partitions],
        )
        for topic in request.topic_partitions or ()
    ]
    return ElectLeadersResponse(error_code=refusal, replica_election_results=results)


def _code(call: Call, name: str, index: int) -> ErrorCode:
    topic = call.broker.topics.by_name.get(TopicName(name))
    known = topic is not None and 0 <= index < topic.partition_count
    return ErrorCode.ELECTION_NOT_NEEDED if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _result(code: ErrorCode, index: int) -> PartitionResult:
    return PartitionResult(partition_id=index, error_code=code, error_message=MESSAGES[code])


MESSAGES: Final = {
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "not allowed to elect leaders",
    ErrorCode.INVALID_REQUEST: "there is no such kind of election: give 0 (preferred) or 1 (unclean)",
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "there is no such partition",
    ErrorCode.ELECTION_NOT_NEEDED: "the only replica leads already",
}
