"""DescribeConfigs (api key 32). Configurations of topics, groups and this broker, with where each value comes from.

v1 sources and synonyms; v3 types and documentation; v4 flexible. Loggers and client metrics have none: an empty list.
Names that do not exist are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from riverlog.base.errors import RiverlogError
from riverlog.broker.configs import ConfigEntry, ConfigSource
from riverlog.gateways.kafka.config_resources import (
    ConfigResourceType,
    check_access,
    check_broker_name,
    resource_kind,
    resource_type,
)
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from riverlog.state.access import Operation
from riverlog.state.topic_configs import ConfigType


@handles(ApiKey.DESCRIBE_CONFIGS, versions=range(1, 5))
def describe_configs(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    once = {(one.resource_type, one.resource_name): one for one in request.resources}  # an answer is much larger than a question
    return DescribeConfigsResponse(results=[_describe(call, request, resource) for resource in once.values()])


def _describe(
    call: Call, request: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> DescribeConfigsResult:
    code, name = resource.resource_type, resource.resource_name
    try:
        entries = _entries(call, code, name, resource.configuration_keys or None)
    except RiverlogError as error:
        return DescribeConfigsResult(
            error_code=error_code(error, resource_kind(code)),
            error_message=error.message,
            resource_type=code,
            resource_name=name,
        )
    configs = [_config(request, entry) for entry in entries]
    return DescribeConfigsResult(error_message=None, resource_type=code, resource_name=name, configs=configs)


def _entries(call: Call, code: int, name: str, keys: Sequence[str] | None) -> Sequence[ConfigEntry]:
    """Raises UNAUTHORIZED, UNKNOWN_TOPIC, INVALID_TOPIC, INVALID_GROUP_ID, INVALID_REQUEST."""
    kind = resource_type(code)
    if kind is ConfigResourceType.TOPIC:
        return call.broker.topics.describe_configs(call.caller, name, keys)
    if kind is ConfigResourceType.GROUP:
        return call.broker.groups.configs.describe(call.caller, name, keys)
    check_access(call, Operation.DESCRIBE_CONFIGS, code, name)
    if kind is ConfigResourceType.BROKER and name:
        check_broker_name(call, name)
        settings = call.broker.topics.describe_broker_configs(call.caller, keys)
        return sorted([*settings, *(entry for entry in _identity(call) if keys is None or entry.name in keys)])
    if kind is ConfigResourceType.BROKER_LOGGER:
        check_broker_name(call, name)
    return ()


def _identity(call: Call) -> Sequence[ConfigEntry]:
    """Who this broker is and where: for this client, so not among the settings that are the same for all."""
    host, port = call.address.host, call.address.port
    listener = f"PLAINTEXT://[{host}]:{port}" if ":" in host else f"PLAINTEXT://{host}:{port}"
    static, string = ConfigSource.STATIC_BROKER, ConfigType.STRING
    return [
        ConfigEntry("advertised.listeners", listener, static, string, True, (), ""),
        ConfigEntry("node.id", str(call.broker.node_id), static, ConfigType.INT, True, (), ""),
    ]


def _config(request: DescribeConfigsRequest, entry: ConfigEntry) -> DescribeConfigsResourceResult:
    synonyms: Sequence[DescribeConfigsSynonym] = ()
    if request.include_synonyms:
        synonyms = [DescribeConfigsSynonym(name=one.name, value=one.value, source=one.source) for one in entry.synonyms]
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        synonyms=synonyms,
        config_type=entry.type,
        documentation=entry.documentation if request.include_documentation else None,
    )
