"""The classes: light to import, with Kafka's defaults."""

from __future__ import annotations

import subprocess
import sys

import pytest

from riverlog.gateways.kafka.schema import create_topics, describe_topic_partitions, fetch, metadata, produce
from riverlog.gateways.kafka.wire import Message


def test_defaults_are_those_of_the_definitions() -> None:
    request = fetch.FetchRequest()
    assert (request.replica_id, request.max_bytes, request.session_epoch, request.rack_id) == (-1, 0x7FFFFFFF, -1, "")
    assert request.cluster_id is None
    assert request.topics == ()
    assert request.replica_state == fetch.ReplicaState(replica_id=-1, replica_epoch=-1)
    assert create_topics.CreateTopicsRequest().timeout_ms == 60000
    assert metadata.MetadataRequest().allow_auto_topic_creation is True
    assert metadata.MetadataResponseTopic().topic_id == bytes(16)
    assert produce.PartitionProduceData().records is None


def test_names_that_request_and_response_share_are_prefixed() -> None:
    assert describe_topic_partitions.DescribeTopicPartitionsRequestCursor.__slots__ == ("topic_name", "partition_index")
    assert describe_topic_partitions.DescribeTopicPartitionsResponseCursor is not None
    assert fetch.FetchPartition is not None


def test_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        fetch.FetchPartition(1)  # type: ignore[misc]  # which mypy sees, too
    assert issubclass(fetch.FetchPartition, Message)
    assert not hasattr(fetch.FetchPartition(), "__dict__")


def test_importing_all_classes_loads_no_codec_and_no_dataclasses() -> None:
    program = (
        "import importlib, sys; from riverlog.gateways.kafka.schema.api_keys import CODECS\n"
        "for name in CODECS.values(): importlib.import_module('riverlog.gateways.kafka.schema.' + name)\n"
        "loaded = [name for name in sys.modules if '.schema.codec' in name or name in ('dataclasses', 'asyncio')]\n"
        "print(loaded)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
