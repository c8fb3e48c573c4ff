"""ApiVersions (api key 18). What is served, read off the handlers' own declarations, and the features that clients act on:
`transaction.version` 2 (KIP-890) and `group.version` 1 (KIP-848). They are final: nothing can turn them down.

v3 names the client's software and tells features. An unknown version is answered by the session, in a v0 body.
Produce is announced from 0, because clients take its absence for an ancient broker; 0-2 are refused.
"""

from __future__ import annotations

from typing import Final

from riverlog.gateways.kafka.dispatch import HANDLERS, Call, handles
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

FEATURES: Final = {"group.version": 1, "transaction.version": 2}  # name -> level; 0 is the lowest of each


def announced() -> list[ApiVersion]:
    """One entry an api key that has a handler, in order."""
    return [
        ApiVersion(
            api_key=key,
            min_version=0 if key == ApiKey.PRODUCE else handler.versions.start,
            max_version=handler.versions.stop - 1,
        )
        for key, handler in sorted(HANDLERS.items())
    ]


@handles(ApiKey.API_VERSIONS, versions=range(0, 5))
def api_versions(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse:
    lowest = 0 if call.version >= 4 else 1  # older clients cannot read a 0 there (KAFKA-17011)
    return ApiVersionsResponse(
        error_code=0,
        api_keys=announced(),
        throttle_time_ms=0,
        supported_features=[
            SupportedFeatureKey(name=name, min_version=lowest, max_version=level) for name, level in FEATURES.items()
        ],
        finalized_features_epoch=0,
        finalized_features=[
            FinalizedFeatureKey(name=name, min_version_level=level, max_version_level=level)
            for name, level in FEATURES.items()
        ],
    )
