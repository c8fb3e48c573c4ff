"""CreatePartitions (api key 37). More partitions for a topic; there is no way back.

v2 flexible. Left out: the time-out, because nothing here waits for another broker.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from riverlog.state.access import ResourceKind


@handles(ApiKey.CREATE_PARTITIONS, versions=range(0, 4))
async def create_partitions(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    times = Counter(topic.name for topic in request.topics)
    topics = {topic.name: topic for topic in request.topics}.values()
    results = await asyncio.gather(
        *(_widen(call, topic, times[topic.name], request.validate_only) for topic in topics)
    )
    return CreatePartitionsResponse(results=results)


async def _widen(
    call: Call, topic: CreatePartitionsTopic, times: int, validate_only: bool
) -> CreatePartitionsTopicResult:
    assignments = None if topic.assignments is None else [one.broker_ids for one in topic.assignments]
    try:
        if times > 1:
            raise RiverlogError(ErrorKind.INVALID_REQUEST, f"topic {topic.name!r} is named twice: name it once")
        await call.broker.topics.add_partitions(
            call.caller, topic.name, topic.count, assignments, validate_only=validate_only
        )
    except RiverlogError as error:
        code = error_code(error, ResourceKind.TOPIC)
        return CreatePartitionsTopicResult(name=topic.name, error_code=code, error_message=error.message)
    return CreatePartitionsTopicResult(name=topic.name)
