"""What is asked of transactions and what is answered, in words that no protocol owns: values, and what errors say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.state.groups.regex import compiled
from riverlog.state.transactions.commands import Producer, TransactionState, Version


class NotAllowedTransactional(RiverlogError):
    """The caller may not write under the transactional id of its request, or names none with transactional batches."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.UNAUTHORIZED, message)


class GroupRefused(RiverlogError):
    """The caller may not read the group whose offsets it wants to commit."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.UNAUTHORIZED, message)


class Described(NamedTuple):
    """One transactional id. `topics`: indexes of the partitions in its open transaction, by the names that may be seen."""

    transactional_id: str
    error: ErrorKind | None
    state: TransactionState = TransactionState.DEAD
    producer: Producer = Producer()
    timeout_ms: int = -1
    start_ms: int = -1
    topics: Mapping[str, Sequence[int]] = {}


class Listed(NamedTuple):
    transactional_id: str
    producer_id: int
    state: TransactionState


_ADVICE: Final[dict[ErrorKind, str]] = {
    ErrorKind.PRODUCER_FENCED: "another producer took the id over, or the transaction timed out: this one must stop",
    ErrorKind.INVALID_PRODUCER_EPOCH: "the producer was replaced by a later epoch: it must stop or ask for a new one",
    ErrorKind.INVALID_PRODUCER_ID_MAPPING: "the producer id is not the id's: ask for a new one (InitProducerId)",
    ErrorKind.INVALID_TXN_STATE: "the transaction is in no state for that: begin one, or end the one that is open",
    ErrorKind.CONCURRENT_TRANSACTIONS: "the last transaction is being ended still: ask again",
    ErrorKind.TRANSACTION_ABORTABLE: "the transaction cannot be committed: abort it and begin another",
    ErrorKind.INVALID_TRANSACTION_TIMEOUT: "the time-out is not between 1 and transaction.max.timeout.ms",
    ErrorKind.TRANSACTIONAL_ID_NOT_FOUND: "nothing is known of that id: it was never used, or it expired",
}


def refused(kind: ErrorKind, transactional_id: str) -> RiverlogError:
    """What the machine of an id answered, as an error with advice."""
    return RiverlogError(kind, f"transactional id {transactional_id!r}: {_ADVICE.get(kind, 'ask again')}")


# What is true of the coordinator at the moment; a producer tries again, which NOT_ENOUGH_REPLICAS tells every one of them.
_TRANSIENT: Final = frozenset(
    {
        ErrorKind.COORDINATOR_LOADING,
        ErrorKind.COORDINATOR_NOT_AVAILABLE,
        ErrorKind.NOT_COORDINATOR,
    }
)


def produce_refusal(kind: ErrorKind, version: Version, transactional_id: str) -> RiverlogError:
    """Why a transactional batch was not admitted, in what a produce of that version knows to act on, as Kafka says it."""
    said = refused(kind, transactional_id).message
    if kind is ErrorKind.PRODUCER_FENCED:
        kind = ErrorKind.INVALID_PRODUCER_EPOCH
    elif kind in _TRANSIENT or (kind is ErrorKind.CONCURRENT_TRANSACTIONS and version < Version.EPOCH_BUMPED):
        kind = ErrorKind.NOT_ENOUGH_REPLICAS
        said = f"whether the partition is in the transaction cannot be said now: {said}"
    elif kind in (ErrorKind.TRANSACTION_ABORTABLE, ErrorKind.INVALID_TXN_STATE):
        kind = ErrorKind.INVALID_TXN_STATE if version < Version.FLEXIBLE else ErrorKind.TRANSACTION_ABORTABLE
        said = f"the partition is not in the open transaction of transactional id {transactional_id!r}: abort it"
    return RiverlogError(kind, said)


def whole_match(pattern: str | None) -> Callable[[str], Any]:
    """Whether a text matches the whole expression of RE2; None and "" match all. Raises INVALID_REGULAR_EXPRESSION."""
    if not pattern:
        return lambda _: True
    try:
        return compiled(pattern).fullmatch  # type: ignore[no-any-return]  # re2 has no types
    except ValueError as error:
        raise RiverlogError(
            ErrorKind.INVALID_REGULAR_EXPRESSION, f"{pattern[:100]!r} is no regular expression that is taken: {error}"
        ) from error
