"""A blocking Kafka client that says exactly what a test wants said. Not for programs: no retries, no metadata."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from struct import Struct
from types import TracebackType
from typing import Any, Final

from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.metadata import MetadataRequest, MetadataRequestTopic
from riverlog.gateways.kafka.schema.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from riverlog.gateways.kafka.wire import Message, decode_response, encode_request

SIZE: Final = Struct(">i")


class KafkaClient:
    """One connection to `address` ("HOST:PORT"). A read that takes longer than `timeout_seconds` raises TimeoutError."""

    def __init__(self, address: str, *, client_id: str = "test", timeout_seconds: float = 20) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client_id = client_id
        self.correlation_id = 0
        self.asked: list[tuple[int, int, int]] = []  # api key, version, correlation id of what is unanswered

    def send(self, api_key: ApiKey, version: int, request: Message, *, answered: bool = True) -> None:
        self.correlation_id += 1
        if answered:
            self.asked.append((api_key, version, self.correlation_id))
        self.socket.sendall(encode_request(api_key, version, self.correlation_id, self.client_id, request))

    def receive(self) -> Any:
        """The answer to the oldest request that has none. Raises ConnectionError where the broker has hung up."""
        api_key, version, expected = self.asked.pop(0)
        (size,) = SIZE.unpack(self._exactly(4))
        correlation_id, response = decode_response(api_key, version, self._exactly(size))
        assert correlation_id == expected, f"the answer to {correlation_id} came where {expected} was due"
        return response

    def ask(self, api_key: ApiKey, version: int, request: Message) -> Any:
        self.send(api_key, version, request)
        return self.receive()

    def is_hung_up(self) -> bool:
        """Waits for the broker to close the connection; False where it says something instead."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the broker has closed the connection")
            data += more
        return bytes(data)

    # what most tests need

    def create_topic(self, name: str) -> bytes:
        """Makes it by asking for its metadata; gives its id."""
        topic = MetadataRequestTopic(name=name)
        answer = self.ask(ApiKey.METADATA, 12, MetadataRequest(topics=[topic], allow_auto_topic_creation=True))
        assert answer.topics[0].error_code == 0, answer
        topic_id: bytes = answer.topics[0].topic_id
        return topic_id

    def produce_request(self, topic: str, batches: Sequence[tuple[int, Any]], acks: int = -1) -> ProduceRequest:
        """`batches`: partition and records, one each."""
        data = [PartitionProduceData(index=partition, records=records) for partition, records in batches]
        return ProduceRequest(
            acks=acks, timeout_ms=30_000, topic_data=[TopicProduceData(name=topic, partition_data=data)]
        )

    def produce(self, topic: str, records: Any, *, partition: int = 0, acks: int = -1) -> PartitionProduceResponse:
        answer = self.ask(ApiKey.PRODUCE, 9, self.produce_request(topic, [(partition, records)], acks))
        response: PartitionProduceResponse = answer.responses[0].partition_responses[0]
        return response

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> KafkaClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
