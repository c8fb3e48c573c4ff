"""From what went wrong to the number that a Kafka client knows. Every `ErrorKind` is here, and mypy proves it.

The numbers are those that Kafka 4.3 gives in the same situation, because clients decide by them: whether to try again,
to ask for metadata, to rejoin, or to give up. The error's message goes beside the number where the answer has a field.
"""

from __future__ import annotations

from typing import assert_never

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import ResourceKind


def unauthorized_code(resource: ResourceKind) -> ErrorCode:
    """Kafka has one code for each kind of resource."""
    match resource:
        case ResourceKind.TOPIC:
            return ErrorCode.TOPIC_AUTHORIZATION_FAILED
        case ResourceKind.GROUP:
            return ErrorCode.GROUP_AUTHORIZATION_FAILED
        case ResourceKind.CLUSTER:
            return ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        case ResourceKind.TRANSACTIONAL_ID:
            return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert_never(resource)


def fence_lost_code(resource: ResourceKind) -> ErrorCode:
    """Another process owns it now: a client looks for the new owner."""
    match resource:
        case ResourceKind.TOPIC | ResourceKind.CLUSTER:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        case ResourceKind.GROUP | ResourceKind.TRANSACTIONAL_ID:
            return ErrorCode.NOT_COORDINATOR
    assert_never(resource)


def error_code(error: RiverlogError, resource: ResourceKind = ResourceKind.TOPIC) -> ErrorCode:
    """The code of an error that is about a resource of that kind."""
    match error.kind:
        case ErrorKind.UNAUTHORIZED:
            return unauthorized_code(resource)
        case ErrorKind.FENCE_LOST:
            return fence_lost_code(resource)
        case ErrorKind.INTERNAL:
            return ErrorCode.UNKNOWN_SERVER_ERROR
        case ErrorKind.INVALID_REQUEST:
            return ErrorCode.INVALID_REQUEST
        case ErrorKind.UNSUPPORTED_VERSION:
            return ErrorCode.UNSUPPORTED_VERSION
        case ErrorKind.INVALID_REQUIRED_ACKS:
            return ErrorCode.INVALID_REQUIRED_ACKS
        case ErrorKind.INVALID_TIMESTAMP:
            return ErrorCode.INVALID_TIMESTAMP
        case ErrorKind.REQUEST_TIMED_OUT:
            return ErrorCode.REQUEST_TIMED_OUT
        case ErrorKind.POLICY_VIOLATION:
            return ErrorCode.POLICY_VIOLATION
        case ErrorKind.UNKNOWN_TOPIC:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        case ErrorKind.UNKNOWN_TOPIC_ID:
            return ErrorCode.UNKNOWN_TOPIC_ID
        case ErrorKind.INCONSISTENT_TOPIC_ID:
            return ErrorCode.INCONSISTENT_TOPIC_ID
        case ErrorKind.TOPIC_EXISTS:
            return ErrorCode.TOPIC_ALREADY_EXISTS
        case ErrorKind.INVALID_TOPIC:
            return ErrorCode.INVALID_TOPIC_EXCEPTION
        case ErrorKind.INVALID_PARTITIONS:
            return ErrorCode.INVALID_PARTITIONS
        case ErrorKind.INVALID_REPLICATION_FACTOR:
            return ErrorCode.INVALID_REPLICATION_FACTOR
        case ErrorKind.INVALID_REPLICA_ASSIGNMENT:
            return ErrorCode.INVALID_REPLICA_ASSIGNMENT
        case ErrorKind.INVALID_CONFIG:
            return ErrorCode.INVALID_CONFIG
        case ErrorKind.TOPIC_DELETION_DISABLED:
            return ErrorCode.TOPIC_DELETION_DISABLED
        case ErrorKind.RESOURCE_NOT_FOUND:
            return ErrorCode.RESOURCE_NOT_FOUND
        case ErrorKind.CORRUPT_MESSAGE:
            return ErrorCode.CORRUPT_MESSAGE
        case ErrorKind.INVALID_RECORD:
            return ErrorCode.INVALID_RECORD
        case ErrorKind.MESSAGE_TOO_LARGE:
            return ErrorCode.MESSAGE_TOO_LARGE
        case ErrorKind.UNSUPPORTED_COMPRESSION:
            return ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
        case ErrorKind.NOT_ENOUGH_REPLICAS:
            return ErrorCode.NOT_ENOUGH_REPLICAS
        case ErrorKind.OFFSET_OUT_OF_RANGE:
            return ErrorCode.OFFSET_OUT_OF_RANGE
        case ErrorKind.STORAGE:
            return ErrorCode.KAFKA_STORAGE_ERROR
        case ErrorKind.FENCED_LEADER_EPOCH:
            return ErrorCode.FENCED_LEADER_EPOCH
        case ErrorKind.UNKNOWN_LEADER_EPOCH:
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        case ErrorKind.OUT_OF_ORDER_SEQUENCE:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        case ErrorKind.DUPLICATE_SEQUENCE:
            return ErrorCode.DUPLICATE_SEQUENCE_NUMBER
        case ErrorKind.INVALID_PRODUCER_EPOCH:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        case ErrorKind.UNKNOWN_PRODUCER_ID:
            return ErrorCode.UNKNOWN_PRODUCER_ID
        case ErrorKind.INVALID_TXN_STATE:
            return ErrorCode.INVALID_TXN_STATE
        case ErrorKind.PRODUCER_FENCED:
            return ErrorCode.PRODUCER_FENCED
        case ErrorKind.INVALID_PRODUCER_ID_MAPPING:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        case ErrorKind.INVALID_TRANSACTION_TIMEOUT:
            return ErrorCode.INVALID_TRANSACTION_TIMEOUT
        case ErrorKind.CONCURRENT_TRANSACTIONS:
            return ErrorCode.CONCURRENT_TRANSACTIONS
        case ErrorKind.TRANSACTION_ABORTABLE:
            return ErrorCode.TRANSACTION_ABORTABLE
        case ErrorKind.TRANSACTIONAL_ID_NOT_FOUND:
            return ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        case ErrorKind.TRANSACTION_COORDINATOR_FENCED:
            return ErrorCode.TRANSACTION_COORDINATOR_FENCED
        case ErrorKind.OPERATION_NOT_ATTEMPTED:
            return ErrorCode.OPERATION_NOT_ATTEMPTED
        case ErrorKind.FETCH_SESSION_NOT_FOUND:
            return ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        case ErrorKind.INVALID_FETCH_SESSION_EPOCH:
            return ErrorCode.INVALID_FETCH_SESSION_EPOCH
        case ErrorKind.COORDINATOR_NOT_AVAILABLE:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        case ErrorKind.COORDINATOR_LOADING:
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        case ErrorKind.NOT_COORDINATOR:
            return ErrorCode.NOT_COORDINATOR
        case ErrorKind.INVALID_GROUP_ID:
            return ErrorCode.INVALID_GROUP_ID
        case ErrorKind.GROUP_ID_NOT_FOUND:
            return ErrorCode.GROUP_ID_NOT_FOUND
        case ErrorKind.NON_EMPTY_GROUP:
            return ErrorCode.NON_EMPTY_GROUP
        case ErrorKind.GROUP_SUBSCRIBED_TO_TOPIC:
            return ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        case ErrorKind.GROUP_FULL:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        case ErrorKind.UNKNOWN_MEMBER_ID:
            return ErrorCode.UNKNOWN_MEMBER_ID
        case ErrorKind.MEMBER_ID_REQUIRED:
            return ErrorCode.MEMBER_ID_REQUIRED
        case ErrorKind.FENCED_INSTANCE_ID:
            return ErrorCode.FENCED_INSTANCE_ID
        case ErrorKind.ILLEGAL_GENERATION:
            return ErrorCode.ILLEGAL_GENERATION
        case ErrorKind.INCONSISTENT_GROUP_PROTOCOL:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        case ErrorKind.INVALID_SESSION_TIMEOUT:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        case ErrorKind.REBALANCE_IN_PROGRESS:
            return ErrorCode.REBALANCE_IN_PROGRESS
        case ErrorKind.OFFSET_METADATA_TOO_LARGE:
            return ErrorCode.OFFSET_METADATA_TOO_LARGE
        case ErrorKind.INVALID_COMMIT_OFFSET_SIZE:
            return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
        case ErrorKind.UNSTABLE_OFFSET_COMMIT:
            return ErrorCode.UNSTABLE_OFFSET_COMMIT
        case ErrorKind.FENCED_MEMBER_EPOCH:
            return ErrorCode.FENCED_MEMBER_EPOCH
        case ErrorKind.STALE_MEMBER_EPOCH:
            return ErrorCode.STALE_MEMBER_EPOCH
        case ErrorKind.UNRELEASED_INSTANCE_ID:
            return ErrorCode.UNRELEASED_INSTANCE_ID
        case ErrorKind.UNSUPPORTED_ASSIGNOR:
            return ErrorCode.UNSUPPORTED_ASSIGNOR
        case ErrorKind.INVALID_REGULAR_EXPRESSION:
            return ErrorCode.INVALID_REGULAR_EXPRESSION
    assert_never(error.kind)
