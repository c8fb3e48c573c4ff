"""The commands of the golden scripts about groups: one group's machine, its topics, and clients that are played by hand.

topic NAME COUNT|gone …                             topics as they are from now on
set NAME=VALUE                                      a setting of the group (names of GroupSettings)
consumer NAME [names=a,b] [regex=R] [instance=I] [assignor=A] [slow]      a client of the consumer protocol, by member id
beat NAME … | lose NAME | finish NAME | epoch NAME N      heartbeats; lose: its reply is lost; finish: it has given up
leave NAME | away NAME                              for good; for a while (static)
join NAME [instance=I] [keeps=0,1] | sync NAME | alive NAME | quit NAME    a client of the classic protocol, topic t
commit NAME [N]                                     an offset, in the client's epoch or generation, or in N
wait MILLISECONDS | reload | group | rows           time with its ticks; another process takes over; what there is
"""

from __future__ import annotations

from dataclasses import replace

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId, TopicId, TopicName
from riverlog.state.groups.commands import (
    Configure,
    ConsumerDescription,
    ConsumerHeartbeatResult,
    DescribeConsumer,
    JoinResult,
    Leaver,
    LeaveResult,
    SyncResult,
    Token,
)
from riverlog.state.groups.consumer_protocol import decode_assignment, encode_assignment
from riverlog.testing.consumer_driver import ConsumerClient, ConsumerGroupDriver, DrivenTopics
from riverlog.testing.group_driver import cooperative_subscription, subscription

COMMITTED = PartitionId(TopicId(b"committed".ljust(16, b".")), 0)


class GroupScript:
    """One story. `execute` gives the lines that a command makes visible."""

    def __init__(self) -> None:
        self.driver = ConsumerGroupDriver(DrivenTopics())
        self._consumers: dict[str, ConsumerClient] = {}
        self._generations: dict[str, int] = {}  # of classic members
        self._ids: dict[str, str] = {}  # name -> member id, of classic members
        self._waiting: dict[Token, str] = {}

    async def execute(self, words: list[str]) -> list[str]:
        command, *rest = words
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        names = [word for word in rest if "=" not in word]
        lines: list[str] = getattr(self, f"_do_{command}")(names, options)
        return lines + self._answers()

    # ------------------------------------------------------------------ the world

    def _do_topic(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.driver.change({n: None if c == "gone" else int(c) for n, c in zip(words[::2], words[1::2], strict=True)})
        return []

    def _do_set(self, words: list[str], options: dict[str, str]) -> list[str]:
        values = {name: int(value) if value.isdecimal() else value for name, value in options.items()}
        self.driver.settings = replace(self.driver.settings, **values)  # type: ignore[arg-type]  # of any type, as the setting has
        self.driver.send(Configure(self.driver.settings))
        return []

    def _do_wait(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.driver.advance(int(words[0]))
        return []

    def _do_reload(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.driver.reload()
        self._waiting.clear()
        return []

    def _do_rows(self, words: list[str], options: dict[str, str]) -> list[str]:
        return sorted(self.driver.rows)

    def _do_group(self, words: list[str], options: dict[str, str]) -> list[str]:
        machine = self.driver.machine
        token = self.driver.token()
        self.driver.send(DescribeConsumer(token))
        told = self.driver.answers[token]
        assert isinstance(told, ConsumerDescription)
        line = f"{machine.group_type} {machine.state.value}"
        if machine.group_type == "classic":
            return [f"{line} generation={self.driver.classic.generation} members={machine.member_count}"]
        lines = [f"{line} epoch={told.group_epoch} target={told.assignment_epoch} by={told.assignor}"]
        for member in told.members:
            has, wants = self._text(member.assignment), self._text(member.target)
            kind = " classic" if member.is_classic else ""
            lines.append(f"  {member.member_id}: epoch={member.member_epoch}{kind} has {has}, shall have {wants}")
        return lines

    def _text(self, assignment: object) -> str:
        assert isinstance(assignment, dict)
        by_id = self.driver.topics.by_id
        named = [(by_id[t].name if t in by_id else "(gone)", indexes) for t, indexes in assignment.items()]
        return " ".join(f"{name}:{','.join(map(str, sorted(i)))}" for name, i in sorted(named)) or "nothing"

    # ------------------------------------------------------------------ the consumer protocol

    def _do_consumer(self, words: list[str], options: dict[str, str]) -> list[str]:
        names = tuple(name for name in options.get("names", "" if "regex" in options else "t").split(",") if name)
        self._consumers[words[0]] = self.driver.client(
            words[0],
            names=names,
            regex=options.get("regex"),
            instance_id=options.get("instance"),
            assignor=options.get("assignor"),
            is_slow="slow" in words,
        )
        return []

    def _do_beat(self, words: list[str], options: dict[str, str]) -> list[str]:
        return [self._heard(name, self._consumers[name].beat()) for name in words]

    def _do_lose(self, words: list[str], options: dict[str, str]) -> list[str]:
        client = self._consumers[words[0]]
        line = self._heard(words[0], client.send())
        client.lose()
        return [f"{line} (lost)"]

    def _do_finish(self, words: list[str], options: dict[str, str]) -> list[str]:
        self._consumers[words[0]].finish()
        return []

    def _do_epoch(self, words: list[str], options: dict[str, str]) -> list[str]:
        self._consumers[words[0]].epoch = int(words[1])
        return []

    def _do_leave(self, words: list[str], options: dict[str, str]) -> list[str]:
        return [self._heard(words[0], self._consumers[words[0]].leave())]

    def _do_away(self, words: list[str], options: dict[str, str]) -> list[str]:
        return [self._heard(words[0], self._consumers[words[0]].leave(-2))]

    def _heard(self, name: str, result: ConsumerHeartbeatResult) -> str:
        if result.error is not None:
            return f"{name}: {result.error.name}: {result.message}"
        told = "" if result.assignment is None else f" given {self._text(result.assignment)}"
        return f"{name}: epoch={result.member_epoch}{told}"

    # ------------------------------------------------------------------ the classic protocol

    def _do_join(self, words: list[str], options: dict[str, str]) -> list[str]:
        metadata = subscription("t")
        if "keeps" in options:
            kept = [int(index) for index in options["keeps"].split(",") if index]
            metadata = cooperative_subscription(["t"], {"t": kept}, self._generations.get(words[0], -1))
        member_id = self._ids.get(words[0], "")
        token = self.driver.join(member_id, instance_id=options.get("instance"), protocols=(("range", metadata),))
        self._waiting[token] = words[0]
        return []

    def _do_sync(self, words: list[str], options: dict[str, str]) -> list[str]:
        """The leader gives the partitions of t in turn."""
        name, generation = words[0], self._generations[words[0]]
        parts: dict[str, bytes] = {}
        if self.driver.machine.group_type == "classic":
            members = list(self.driver.classic.membership.members)
            topic = self.driver.topics.by_name[TopicName("t")]
            for place, member_id in enumerate(members):
                mine = list(range(place, topic.partition_count, len(members)))
                parts[member_id] = encode_assignment({"t": mine})
            if self.driver.classic.membership.leader != self._ids[name]:
                parts = {}
        self._waiting[self.driver.sync(self._ids[name], generation, parts)] = name
        return []

    def _do_alive(self, words: list[str], options: dict[str, str]) -> list[str]:
        name = words[0]
        error = self.driver.beat(self._ids[name], self._generations[name])
        return [f"{name}: {error.name if isinstance(error, ErrorKind) else 'alive'}"]

    def _do_quit(self, words: list[str], options: dict[str, str]) -> list[str]:
        result = self.driver.leave(Leaver(self._ids[words[0]]))
        assert isinstance(result, LeaveResult)
        return [f"{words[0]}: {'gone' if result.errors[0] is None else result.errors[0].name}"]

    def _do_commit(self, words: list[str], options: dict[str, str]) -> list[str]:
        name = words[0]
        known = self._consumers[name].epoch if name in self._consumers else self._generations[name]
        epoch = int(words[1]) if len(words) > 1 else known
        error = self.driver.commit({COMMITTED: 1}, self._ids.get(name, name), epoch)
        return [f"{name}: {error.name if isinstance(error, ErrorKind) else 'committed'}"]

    def _answers(self) -> list[str]:
        """Of the classic requests that waited."""
        lines = []
        for token, name in list(self._waiting.items()):
            result = self.driver.answers.get(token)
            if isinstance(result, JoinResult):
                lines.append(self._joined(name, result))
            elif isinstance(result, SyncResult):
                parts = {} if result.error else decode_assignment(result.assignment)[0]
                text = " ".join(f"{topic}:{','.join(map(str, i))}" for topic, i in parts.items()) or "nothing"
                lines.append(f"{name}: given {text}" if result.error is None else f"{name}: {result.error.name}")
            else:
                continue
            del self._waiting[token]
        return lines

    def _joined(self, name: str, result: JoinResult) -> str:
        if result.error is not None:
            return f"{name}: {result.error.name}"
        self._ids[name], self._generations[name] = result.member_id, result.generation
        leads = " leads" if result.leader == result.member_id else ""
        return f"{name}: joined as {result.member_id} generation={result.generation}{leads}"
