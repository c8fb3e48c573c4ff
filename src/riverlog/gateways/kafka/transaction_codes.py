"""Error codes of answers about transactions. UNAUTHORIZED is about the transactional id, where it is not about the group."""

from __future__ import annotations

from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.broker.transaction_requests import GroupRefused
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import ResourceKind
from riverlog.state.transactions.commands import Version

_FLEXIBLE_FROM: Final = 4  # version of EndTxn, AddOffsetsToTxn and TxnOffsetCommit from which TRANSACTION_ABORTABLE is known
_BUMPED_FROM: Final = 5


def transaction_version(api_version: int) -> Version:
    """What a client that sends EndTxn, AddOffsetsToTxn or TxnOffsetCommit in that version knows of transactions."""
    if api_version >= _BUMPED_FROM:
        return Version.EPOCH_BUMPED
    return Version.FLEXIBLE if api_version >= _FLEXIBLE_FROM else Version.PLAIN


def transaction_code(refusal: RiverlogError, *, fenced_is_known: bool = True) -> ErrorCode:
    """`fenced_is_known`: the version has PRODUCER_FENCED; clients of those before know INVALID_PRODUCER_EPOCH for it."""
    if refusal.kind is ErrorKind.PRODUCER_FENCED and not fenced_is_known:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    resource = ResourceKind.GROUP if isinstance(refusal, GroupRefused) else ResourceKind.TRANSACTIONAL_ID
    return error_code(refusal, resource)
