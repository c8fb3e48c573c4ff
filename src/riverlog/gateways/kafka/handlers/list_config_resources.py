"""ListConfigResources (api key 74). What has configurations of its own.

v0 asked for client metrics alone, of which there are none; v1 asks by type, an empty list for all.
"""

from __future__ import annotations

from riverlog.gateways.kafka.config_resources import ConfigResourceType
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.schema.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)
from riverlog.state.access import CLUSTER, Operation


@handles(ApiKey.LIST_CONFIG_RESOURCES, versions=range(0, 2))
def list_config_resources(call: Call, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse:
    broker = call.broker
    if not broker.access.allows(call.caller, Operation.DESCRIBE_CONFIGS, CLUSTER):
        return ListConfigResourcesResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    known = set(ConfigResourceType)
    asked = set(request.resource_types) or known if call.version >= 1 else {ConfigResourceType.CLIENT_METRICS}
    if not asked <= known:
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    found: list[tuple[str, ConfigResourceType]] = []
    if ConfigResourceType.TOPIC in asked:
        found += [(topic.name, ConfigResourceType.TOPIC) for topic in broker.topics.visible(call.caller)]
    for kind in (ConfigResourceType.BROKER, ConfigResourceType.BROKER_LOGGER):
        if kind in asked:
            found.append((str(broker.node_id), kind))
    if ConfigResourceType.GROUP in asked:
        found += [(group_id, ConfigResourceType.GROUP) for group_id in broker.groups.configs.visible(call.caller)]
    resources = [ConfigResource(resource_name=name, resource_type=kind) for name, kind in sorted(found)]
    return ListConfigResourcesResponse(config_resources=resources)
