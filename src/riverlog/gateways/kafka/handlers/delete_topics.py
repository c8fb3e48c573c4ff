"""DeleteTopics (api key 20). The name is free at once; the files go in the background.

v4 flexible; v5 error messages; v6 by topic id. Left out: the time-out, because nothing here waits for another broker.
"""

from __future__ import annotations

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import NO_TOPIC_ID, TopicId, TopicName
from riverlog.broker.topics import Topic
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import ResourceKind


@handles(ApiKey.DELETE_TOPICS, versions=range(1, 7))
async def delete_topics(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    asked = request.topics or [DeleteTopicState(name=name) for name in request.topic_names]
    keys = [_key(one) for one in asked]
    outcomes = iter(
        await call.broker.topics.delete(call.caller, [key for key in keys if not isinstance(key, RiverlogError)])
    )
    results = [
        _result(call, one, key if isinstance(key, RiverlogError) else next(outcomes))
        for one, key in zip(asked, keys, strict=True)
    ]
    return DeleteTopicsResponse(responses=list({(one.name, one.topic_id): one for one in results}.values()))


def _key(asked: DeleteTopicState) -> TopicName | TopicId | RiverlogError:
    if asked.name is None:
        return TopicId(asked.topic_id)
    if asked.topic_id != NO_TOPIC_ID:
        return RiverlogError(ErrorKind.INVALID_REQUEST, "a topic is named by its name or by its id: give one of them")
    return TopicName(asked.name)


def _result(call: Call, asked: DeleteTopicState, outcome: Topic | RiverlogError) -> DeletableTopicResult:
    if isinstance(outcome, Topic):
        return DeletableTopicResult(name=outcome.name, topic_id=outcome.topic_id)
    code = error_code(outcome, ResourceKind.TOPIC)
    if code is ErrorCode.TOPIC_DELETION_DISABLED and call.version < 3:
        code = ErrorCode.INVALID_REQUEST
    return DeletableTopicResult(
        name=asked.name, topic_id=asked.topic_id, error_code=code, error_message=outcome.message
    )
