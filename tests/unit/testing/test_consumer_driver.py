"""The tool that plays members of the consumer protocol."""

from __future__ import annotations

from riverlog.testing.consumer_driver import ConsumerGroupDriver, DrivenTopics


def test_topics_keep_their_id_while_they_live() -> None:
    topics = DrivenTopics(t=1)
    first = topics.by_name["t"].topic_id  # type: ignore[index]
    assert topics.put("t", 2) == first
    topics.delete("t")
    assert topics.put("t", 2) != first


def test_a_client_says_everything_only_when_it_must() -> None:
    driver = ConsumerGroupDriver(DrivenTopics(t=2))
    client = driver.client("a")
    assert client.request().subscribed_names == ("t",)
    client.beat()
    assert client.request().owned == {topic_id: [0, 1] for topic_id in client.owned}
    client.beat()
    assert (client.request().subscribed_names, client.request().owned) == (None, None)
    client.lose()
    assert client.request().rebalance_timeout_ms == 60_000


def test_a_slow_client_owns_what_it_had_until_it_finishes() -> None:
    driver = ConsumerGroupDriver(DrivenTopics(t=2))
    client = driver.client("a", is_slow=True)
    client.beat()
    assert client.partitions() == []
    client.finish()
    assert len(client.partitions()) == 2
