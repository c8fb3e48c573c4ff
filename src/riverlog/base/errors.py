"""What can go wrong, in the words of a caller: few kinds, rich messages.

A kind is what a program decides on, the message is what a person reads: it says what to do. Each gateway maps each kind
once (`gateways/kafka/errors.py`), and mypy proves that none was forgotten.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

message_length_max: Final = 8_000  # characters; what a client sent may be of any length, an old Kafka answer carries 32,767 bytes


class ErrorKind(Enum):
    """A value is a stable name for logs and metrics."""

    # of a request
    INVALID_REQUEST = "invalid-request"
    UNSUPPORTED_VERSION = "unsupported-version"
    INVALID_REQUIRED_ACKS = "invalid-required-acks"
    INVALID_TIMESTAMP = "invalid-timestamp"
    UNAUTHORIZED = "unauthorized"
    REQUEST_TIMED_OUT = "request-timed-out"
    POLICY_VIOLATION = "policy-violation"
    # topics
    UNKNOWN_TOPIC = "unknown-topic"
    UNKNOWN_TOPIC_ID = "unknown-topic-id"
    INCONSISTENT_TOPIC_ID = "inconsistent-topic-id"
    TOPIC_EXISTS = "topic-exists"
    INVALID_TOPIC = "invalid-topic"
    INVALID_PARTITIONS = "invalid-partitions"
    INVALID_REPLICATION_FACTOR = "invalid-replication-factor"
    INVALID_REPLICA_ASSIGNMENT = "invalid-replica-assignment"
    INVALID_CONFIG = "invalid-config"
    TOPIC_DELETION_DISABLED = "topic-deletion-disabled"
    RESOURCE_NOT_FOUND = "resource-not-found"
    # records
    CORRUPT_MESSAGE = "corrupt-message"
    INVALID_RECORD = "invalid-record"
    MESSAGE_TOO_LARGE = "message-too-large"
    UNSUPPORTED_COMPRESSION = "unsupported-compression"
    NOT_ENOUGH_REPLICAS = "not-enough-replicas"
    # logs
    OFFSET_OUT_OF_RANGE = "offset-out-of-range"
    STORAGE = "storage"
    FENCED_LEADER_EPOCH = "fenced-leader-epoch"
    UNKNOWN_LEADER_EPOCH = "unknown-leader-epoch"
    FENCE_LOST = "fence-lost"
    # producers
    OUT_OF_ORDER_SEQUENCE = "out-of-order-sequence"
    DUPLICATE_SEQUENCE = "duplicate-sequence"
    INVALID_PRODUCER_EPOCH = "invalid-producer-epoch"
    UNKNOWN_PRODUCER_ID = "unknown-producer-id"
    INVALID_TXN_STATE = "invalid-txn-state"
    # transactions
    PRODUCER_FENCED = "producer-fenced"
    INVALID_PRODUCER_ID_MAPPING = "invalid-producer-id-mapping"
    INVALID_TRANSACTION_TIMEOUT = "invalid-transaction-timeout"
    CONCURRENT_TRANSACTIONS = "concurrent-transactions"
    TRANSACTION_ABORTABLE = "transaction-abortable"
    TRANSACTIONAL_ID_NOT_FOUND = "transactional-id-not-found"
    TRANSACTION_COORDINATOR_FENCED = "transaction-coordinator-fenced"
    OPERATION_NOT_ATTEMPTED = "operation-not-attempted"
    # fetch sessions
    FETCH_SESSION_NOT_FOUND = "fetch-session-not-found"
    INVALID_FETCH_SESSION_EPOCH = "invalid-fetch-session-epoch"
    # groups
    COORDINATOR_NOT_AVAILABLE = "coordinator-not-available"
    COORDINATOR_LOADING = "coordinator-loading"
    NOT_COORDINATOR = "not-coordinator"
    INVALID_GROUP_ID = "invalid-group-id"
    GROUP_ID_NOT_FOUND = "group-id-not-found"
    NON_EMPTY_GROUP = "non-empty-group"
    GROUP_SUBSCRIBED_TO_TOPIC = "group-subscribed-to-topic"
    GROUP_FULL = "group-full"
    UNKNOWN_MEMBER_ID = "unknown-member-id"
    MEMBER_ID_REQUIRED = "member-id-required"
    FENCED_INSTANCE_ID = "fenced-instance-id"
    ILLEGAL_GENERATION = "illegal-generation"
    INCONSISTENT_GROUP_PROTOCOL = "inconsistent-group-protocol"
    INVALID_SESSION_TIMEOUT = "invalid-session-timeout"
    REBALANCE_IN_PROGRESS = "rebalance-in-progress"
    OFFSET_METADATA_TOO_LARGE = "offset-metadata-too-large"
    INVALID_COMMIT_OFFSET_SIZE = "invalid-commit-offset-size"
    UNSTABLE_OFFSET_COMMIT = "unstable-offset-commit"
    FENCED_MEMBER_EPOCH = "fenced-member-epoch"
    STALE_MEMBER_EPOCH = "stale-member-epoch"
    UNRELEASED_INSTANCE_ID = "unreleased-instance-id"
    UNSUPPORTED_ASSIGNOR = "unsupported-assignor"
    INVALID_REGULAR_EXPRESSION = "invalid-regular-expression"
    # ours
    INTERNAL = "internal"


class RiverlogError(Exception):
    """The one error that `broker`, `storage` and `catalog` raise to a gateway. `message` says what the caller can do."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        if len(message) > message_length_max:
            half = message_length_max // 2
            message = f"{message[:half]}…{message[1 - half :]}"
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __repr__(self) -> str:
        return f"RiverlogError({self.kind.name}, {self.message!r})"


class Corruption(RiverlogError):
    """Bytes of ours that are not what was written. Names the file and the position."""

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(ErrorKind.STORAGE, f"{path}: {what} at position {position}")
        self.path = path
        self.position = position
        self.what = what
