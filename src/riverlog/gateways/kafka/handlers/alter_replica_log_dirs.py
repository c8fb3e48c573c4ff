"""AlterReplicaLogDirs (api key 34). There is one directory (DescribeLogDirs names it): a move to it is done, to any other
refused. v2 flexible."""

from __future__ import annotations

from riverlog.base.ids import TopicName
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.handlers.describe_log_dirs import DIRECTORY
from riverlog.gateways.kafka.schema.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import CLUSTER, Operation


@handles(ApiKey.ALTER_REPLICA_LOG_DIRS, versions=range(1, 3))
def alter_replica_log_dirs(call: Call, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse:
    allowed = call.broker.access.allows(call.caller, Operation.ALTER, CLUSTER)
    results: dict[str, list[AlterReplicaLogDirPartitionResult]] = {}
    for directory in request.dirs:
        for topic in directory.topics:
            for index in topic.partitions:
                code = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
                if allowed:
                    code = _code(call, directory.path, topic.name, index)
                told = AlterReplicaLogDirPartitionResult(partition_index=index, error_code=code)
                results.setdefault(topic.name, []).append(told)
    return AlterReplicaLogDirsResponse(
        results=[AlterReplicaLogDirTopicResult(topic_name=name, partitions=told) for name, told in results.items()]
    )


def _code(call: Call, path: str, name: str, index: int) -> ErrorCode:
    if path != DIRECTORY:
        return ErrorCode.LOG_DIR_NOT_FOUND
    topic = call.broker.topics.by_name.get(TopicName(name))
    known = topic is not None and 0 <= index < topic.partition_count
    return ErrorCode.NONE if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
