"""Members of the consumer protocol for a driven group: they beat, take what they are given and give up what they must.

`owned` is what a member would read from now. A reply that is lost, a request that never arrives and a pause are the
caller's to play: `beat` sends and hears, `send` and `hear` are its halves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import TopicId, TopicName
from riverlog.state.groups.commands import ConsumerHeartbeat, ConsumerHeartbeatResult, TopicsChanged
from riverlog.testing.group_driver import GroupDriver


@dataclass(frozen=True, slots=True)
class DrivenTopic:
    name: str
    topic_id: TopicId
    partition_count: int


class DrivenTopics:
    """Topics that a test makes, grows and deletes."""

    def __init__(self, **partition_counts: int) -> None:
        self.by_name: dict[TopicName, DrivenTopic] = {}
        self.by_id: dict[TopicId, DrivenTopic] = {}
        self._made = 0
        for name, count in partition_counts.items():
            self.put(name, count)

    def put(self, name: str, partition_count: int) -> TopicId:
        known = self.by_name.get(TopicName(name))
        self._made += known is None
        topic_id = TopicId(f"{name[:8]}-{self._made}".encode().ljust(16, b".")) if known is None else known.topic_id
        topic = DrivenTopic(name, topic_id, partition_count)
        self.by_name[TopicName(name)] = self.by_id[topic_id] = topic
        return topic_id

    def delete(self, name: str) -> None:
        del self.by_id[self.by_name.pop(TopicName(name)).topic_id]


@dataclass(slots=True)
class ConsumerClient:
    """One member, as a good client plays it: a full request when it joins and after an error, else only what changed."""

    driver: GroupDriver
    member_id: str
    names: Sequence[str] = ("t",)
    regex: str | None = None
    instance_id: str | None = None
    assignor: str | None = None
    rebalance_timeout_ms: int = 60_000
    epoch: int = 0
    owned: dict[TopicId, set[int]] = field(default_factory=dict)
    wanted: dict[TopicId, set[int]] | None = None  # what it was given while it had not given up the rest
    is_slow: bool = False  # it goes from `owned` to `wanted` only when it is told to finish
    is_full: bool = True  # the next request says everything
    is_dead: bool = False  # another took its instance over
    is_told: bool = False  # it has been given an assignment that it has not acknowledged

    def request(self) -> ConsumerHeartbeat:
        owned = {topic_id: sorted(indexes) for topic_id, indexes in self.owned.items() if indexes}
        beat = ConsumerHeartbeat(
            token=self.driver.token(),
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.instance_id,
            client_id="c",
            client_host="/127.0.0.1",
            owned=owned if self.is_full or self.is_told else None,
        )
        if self.is_full:
            beat = beat._replace(
                rebalance_timeout_ms=self.rebalance_timeout_ms,
                subscribed_names=self.names,
                subscribed_regex=self.regex,
                assignor=self.assignor,
            )
        return beat

    def send(self) -> ConsumerHeartbeatResult:
        beat = self.request()
        self.driver.send(beat)
        result = self.driver.answers[beat.token]
        assert isinstance(result, ConsumerHeartbeatResult)
        return result

    def hear(self, result: ConsumerHeartbeatResult) -> None:
        if result.error is None:
            self.epoch = result.member_epoch
            self.is_full = False
            self.is_told = False
            if result.assignment is not None:
                self.wanted = {topic_id: set(indexes) for topic_id, indexes in result.assignment.items()}
                if not self.is_slow:
                    self.finish()
        elif result.error in (ErrorKind.FENCED_MEMBER_EPOCH, ErrorKind.UNKNOWN_MEMBER_ID):
            self.owned, self.wanted = {}, None
            self.epoch = 0
            self.is_full = True
        elif result.error is ErrorKind.FENCED_INSTANCE_ID:
            self.owned = {}
            self.is_dead = True

    def finish(self) -> None:
        """It has given up what it must, and takes what it was given."""
        if self.wanted is not None:
            self.owned, self.wanted, self.is_told = self.wanted, None, True

    def lose(self) -> None:
        """The answer never came: the next request says everything again."""
        self.is_full = True

    def beat(self) -> ConsumerHeartbeatResult:
        result = self.send()
        self.hear(result)
        return result

    def leave(self, epoch: int = -1) -> ConsumerHeartbeatResult:
        self.epoch, self.is_full, self.is_told = epoch, False, False
        result = self.send()
        self.epoch, self.owned, self.wanted, self.is_full = 0, {}, None, True
        return result

    def partitions(self) -> list[tuple[TopicId, int]]:
        return sorted((topic_id, index) for topic_id, indexes in self.owned.items() for index in indexes)


class ConsumerGroupDriver(GroupDriver):
    """A driven group with its topics and the clients that were made for it."""

    topics: DrivenTopics

    def __init__(self, topics: DrivenTopics, **options: object) -> None:
        super().__init__(topics=topics, **options)  # type: ignore[arg-type]  # handed on
        self.clients: list[ConsumerClient] = []

    def client(self, member_id: str, **options: object) -> ConsumerClient:
        made = ConsumerClient(self, member_id, **options)  # type: ignore[arg-type]  # handed on  # handed on
        self.clients.append(made)
        return made

    def change(self, names: Mapping[str, int | None]) -> None:
        """Topics get so many partitions; None: they are deleted."""
        for name, count in names.items():
            if count is None:
                self.topics.delete(name)
            else:
                self.topics.put(name, count)
        self.send(TopicsChanged(list(names)))

    def settle(self, rounds: int = 10) -> None:
        """All clients beat each second, until nothing moves."""
        for _ in range(rounds):
            for client in self.clients:
                client.beat()
            self.advance(1_000)
