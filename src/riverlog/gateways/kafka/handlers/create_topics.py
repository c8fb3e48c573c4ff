"""CreateTopics (api key 19). Makes topics; each is answered for itself.

v4 -1 for the broker's defaults; v5 flexible, tells partitions and configs; v7 tells topic ids. The list of configs is
never null: Java's client dies of that. Any replication factor is kept and answered as the one replica that there is.
Left out: the time-out, because nothing here waits for another broker.
"""

from __future__ import annotations

from collections.abc import Sequence

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.limits import partitions_per_request_max, partitions_per_topic_max
from riverlog.broker.topics import Topic
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from riverlog.state.access import ResourceKind
from riverlog.state.topics import TopicSpec


@handles(ApiKey.CREATE_TOPICS, versions=range(2, 8))
async def create_topics(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse:
    specs = [_spec(topic) for topic in request.topics]
    if (count := _partition_count(call, specs)) > partitions_per_request_max:
        refusal = RiverlogError(
            ErrorKind.POLICY_VIOLATION,
            f"{count} partitions are asked for in one request; ask for at most {partitions_per_request_max} at a time",
        )
        return CreateTopicsResponse(
            topics=[_result(call, name, refusal) for name in {spec.name: None for spec in specs}]
        )
    outcomes = await call.broker.topics.create(call.caller, specs, validate_only=request.validate_only)
    results = {spec.name: _result(call, spec.name, outcome) for spec, outcome in zip(specs, outcomes, strict=True)}
    return CreateTopicsResponse(topics=list(results.values()))


def _partition_count(call: Call, specs: Sequence[TopicSpec]) -> int:
    """Of all topics together. A topic that is refused for another reason counts as one."""
    default = call.broker.settings.num_partitions
    counts = (
        max(1, spec.partition_count, len(spec.assignments or ()), default * (spec.partition_count == -1))
        for spec in specs
    )
    return sum(count if count <= partitions_per_topic_max else 1 for count in counts)


def _spec(topic: CreatableTopic) -> TopicSpec:
    return TopicSpec(
        name=topic.name,
        partition_count=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=[(one.partition_index, one.broker_ids) for one in topic.assignments],
        configs={config.name: config.value for config in topic.configs},
    )


def _result(call: Call, name: str, outcome: Topic | RiverlogError) -> CreatableTopicResult:
    if isinstance(outcome, RiverlogError):
        code = error_code(outcome, ResourceKind.TOPIC)
        return CreatableTopicResult(name=name, error_code=code, error_message=outcome.message)
    try:
        configs = _configs(call, outcome)
    except RiverlogError as error:
        code = error_code(error, ResourceKind.TOPIC)
        return CreatableTopicResult(
            name=name, topic_id=outcome.topic_id, error_message=None, topic_config_error_code=code
        )
    return CreatableTopicResult(
        name=name,
        topic_id=outcome.topic_id,
        error_message=None,
        num_partitions=outcome.partition_count,
        replication_factor=1,
        configs=configs,
    )


def _configs(call: Call, topic: Topic) -> Sequence[CreatableTopicConfigs]:
    """Raises UNAUTHORIZED: the topic is made, and its configs are not told."""
    return [
        CreatableTopicConfigs(name=entry.name, value=entry.value, read_only=entry.read_only, config_source=entry.source)
        for entry in call.broker.topics.describe_configs_of(call.caller, topic, None)
    ]
