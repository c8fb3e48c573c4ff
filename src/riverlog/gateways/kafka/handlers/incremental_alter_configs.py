"""IncrementalAlterConfigs (api key 44). Sets, deletes, appends to or subtracts from configurations of a topic or a group,
one by one.

v1 flexible. A broker's settings are read at its start and refused here.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.gateways.kafka.config_resources import (
    ConfigResourceType,
    check_nothing_to_alter,
    resource_kind,
    resource_type,
)
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.errors import error_code
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from riverlog.state.topics import ConfigChange, ConfigOperation


@handles(ApiKey.INCREMENTAL_ALTER_CONFIGS, versions=range(0, 2))
async def incremental_alter_configs(
    call: Call, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    times = Counter((one.resource_type, one.resource_name) for one in request.resources)
    once = {(one.resource_type, one.resource_name): one for one in request.resources}
    responses = await asyncio.gather(
        *(_answer(call, resource, times[key], request.validate_only) for key, resource in once.items())
    )
    return IncrementalAlterConfigsResponse(responses=responses)


async def _answer(
    call: Call, resource: AlterConfigsResource, times: int, validate_only: bool
) -> AlterConfigsResourceResponse:
    code, name = resource.resource_type, resource.resource_name
    try:
        if times > 1:
            raise RiverlogError(ErrorKind.INVALID_REQUEST, f"resource {name!r} is named twice: name it once")
        await _alter(call, resource, validate_only)
    except RiverlogError as error:
        return AlterConfigsResourceResponse(
            error_code=error_code(error, resource_kind(code)),
            error_message=error.message,
            resource_type=code,
            resource_name=name,
        )
    return AlterConfigsResourceResponse(error_message=None, resource_type=code, resource_name=name)


async def _alter(call: Call, resource: AlterConfigsResource, validate_only: bool) -> None:
    kind = resource_type(resource.resource_type)
    if kind not in (ConfigResourceType.TOPIC, ConfigResourceType.GROUP):
        check_nothing_to_alter(call, kind, resource.resource_name, [config.name for config in resource.configs])
        return
    changes = [_change(config) for config in resource.configs]
    kept = call.broker.groups.configs if kind is ConfigResourceType.GROUP else call.broker.topics
    await kept.incremental_alter(call.caller, resource.resource_name, changes, validate_only=validate_only)


def _change(config: AlterableConfig) -> ConfigChange:
    try:
        operation = ConfigOperation(config.config_operation)
    except ValueError:
        raise RiverlogError(
            ErrorKind.INVALID_REQUEST,
            f"operation {config.config_operation} on {config.name}: give 0 (set), 1 (delete), 2 (append), 3 (subtract)",
        ) from None
    return ConfigChange(config.name, operation, config.value)
