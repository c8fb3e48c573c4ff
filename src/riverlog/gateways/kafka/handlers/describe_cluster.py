"""DescribeCluster (api key 60). The brokers, as Metadata names them.

v1 endpoint types (there are only brokers here); v2 fenced brokers (there are none). As in Kafka everybody may ask;
who may not see the cluster is told no operations. """

from __future__ import annotations

from typing import Final

from riverlog.gateways.kafka.authorized import NOT_ASKED
from riverlog.gateways.kafka.dispatch import Call, handles
from riverlog.gateways.kafka.handlers.metadata import cluster_operations
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from riverlog.gateways.kafka.schema.error_codes import ErrorCode

BROKERS: Final = 1
CONTROLLERS: Final = 2


@handles(ApiKey.DESCRIBE_CLUSTER, versions=range(0, 3))
def describe_cluster(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse:
    broker = call.broker
    if request.endpoint_type != BROKERS:
        known = request.endpoint_type == CONTROLLERS
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE if known else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message=f"there are brokers here: ask for endpoint type {BROKERS}",
            endpoint_type=BROKERS,
        )
    operations = cluster_operations(call) if request.include_cluster_authorized_operations else NOT_ASKED
    here = DescribeClusterBroker(broker_id=broker.node_id, host=call.address.host, port=call.address.port)
    return DescribeClusterResponse(
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
        brokers=[here],
        cluster_authorized_operations=operations,
    )
