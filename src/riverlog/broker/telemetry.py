"""What the broker counts. Plain ints on the hot path; `/metrics` reads them when it is asked."""

from __future__ import annotations

from collections import defaultdict

from riverlog.base.ids import TopicId


class TopicCounters:
    __slots__ = (
        "batches_in",
        "bytes_in",
        "bytes_out",
        "failed_fetches",
        "failed_produces",
        "fetches",
        "messages_in",
        "produces",
    )

    def __init__(self) -> None:
        self.produces = 0
        self.failed_produces = 0
        self.batches_in = 0
        self.messages_in = 0
        self.bytes_in = 0
        self.fetches = 0
        self.failed_fetches = 0
        self.bytes_out = 0


class RequestCounters:
    """Of one api key. `errors`: by the name of the code that was answered."""

    __slots__ = ("bytes_in", "count", "errors")

    def __init__(self) -> None:
        self.count = 0
        self.bytes_in = 0
        self.errors: dict[str, int] = defaultdict(int)


class TransactionCounters:
    """Of all transactional ids, since the start."""

    __slots__ = ("aborted", "committed", "timed_out")

    def __init__(self) -> None:
        self.committed = 0
        self.aborted = 0  # for whatever reason; those that timed out too
        self.timed_out = 0


class Telemetry:
    def __init__(self) -> None:
        self.transactions = TransactionCounters()
        self.topics: dict[TopicId, TopicCounters] = {}
        self.requests: dict[int, RequestCounters] = {}
        self.protocol_errors = 0
        self.internal_errors = 0
        self.delayed_requests = 0  # of members of groups that asked too often

    def topic(self, topic_id: TopicId) -> TopicCounters:
        counters = self.topics.get(topic_id)
        if counters is None:
            counters = self.topics[topic_id] = TopicCounters()
        return counters

    def request(self, api_key: int) -> RequestCounters:
        counters = self.requests.get(api_key)
        if counters is None:
            counters = self.requests[api_key] = RequestCounters()
        return counters
