"""Answers that every engine gives in the same words."""

from __future__ import annotations

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId
from riverlog.state.producers import Producers
from riverlog.storage.contract import ProducerState


def unknown(topic_id: TopicId) -> RiverlogError:
    return RiverlogError(ErrorKind.UNKNOWN_TOPIC, f"no such partition of topic {topic_id.hex()} is open here")


def out_of_range(name: str, log_start: int, log_end: int, offset: int) -> RiverlogError | None:
    """Kafka's rule: from the log start to the log end; between high watermark and log end there is nothing yet."""
    if log_start <= offset <= log_end:
        return None
    return RiverlogError(
        ErrorKind.OFFSET_OUT_OF_RANGE,
        f"{name} holds offsets {log_start} to {log_end}, {offset} was asked for: begin at one of the ends",
    )


def not_readable(name: str, high_watermark: int, offset: int) -> RiverlogError:
    """Of a log start that somebody wants behind what readers see."""
    return RiverlogError(
        ErrorKind.OFFSET_OUT_OF_RANGE, f"{name} is readable up to {high_watermark}, {offset} lies behind that"
    )


def states_of(producers: Producers) -> list[ProducerState]:
    return [
        ProducerState(
            entry.producer_id,
            entry.epoch,
            entry.batches[-1].last_sequence if entry.batches else -1,
            entry.timestamp_ms,
            entry.transaction_first_offset,
            entry.coordinator_epoch,
        )
        for entry in producers.entries()
    ]
