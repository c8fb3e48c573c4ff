"""AlterConfigs (api key 33). Replaces all configurations of a topic or a group: what is not named falls back to the default.

v2 flexible. A broker's settings are read at its start and refused here.
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
from riverlog.gateways.kafka.schema.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)
from riverlog.gateways.kafka.schema.api_keys import ApiKey


@handles(ApiKey.ALTER_CONFIGS, versions=range(0, 3))
async def alter_configs(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse:
    times = Counter((one.resource_type, one.resource_name) for one in request.resources)
    once = {(one.resource_type, one.resource_name): one for one in request.resources}
    responses = await asyncio.gather(
        *(_answer(call, resource, times[key], request.validate_only) for key, resource in once.items())
    )
    return AlterConfigsResponse(responses=responses)


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
    names = Counter(config.name for config in resource.configs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise RiverlogError(ErrorKind.INVALID_REQUEST, f"config {twice[0]} is named twice: name it once")
    configs = {config.name: config.value for config in resource.configs}
    alter = call.broker.groups.configs.alter if kind is ConfigResourceType.GROUP else call.broker.topics.alter_configs
    await alter(call.caller, resource.resource_name, configs, validate_only=validate_only)
