"""The commands of the golden scripts about transactions: one transactional id, its clients, its rows.

init NAME [NAME]                        by a new client, or by one that has what the second name says; kept under the first name
add NAME p0|gX … [v0]                   partitions and groups
verify NAME p0|gX …
end NAME commit|abort [v0] [as NAME]    the answer is kept under the last name, else under the same
settle | settle lost                    what was appended is durable, or cannot be
markers [p0|gX …]                       are written, all or those; one call is one `MarkersWritten`
wait MS                                 time passes, with the ticks that were asked for
load [MS]                               another process takes over after so long; what was not durable is gone
idle                                    the lazy commit is made
lookup NUMBER | rows | state            what groups, the disk and people see
epoch NAME EPOCH                        the id is new, and its producer has had so many epochs; before anything else

Producers are printed as ID/EPOCH, ids from 1000 in the order in which they were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId
from riverlog.state.transactions.commands import (
    Add,
    AddResult,
    Command,
    End,
    Init,
    MarkersWritten,
    Number,
    Producer,
    ProducerResult,
    Result,
    Settled,
    Token,
    TransactionState,
    Verify,
    Version,
)
from riverlog.state.transactions.effects import Commit, Effect, MakeDurable, Reply, Schedule, WriteMarkers
from riverlog.state.transactions.rows import (
    STATE_KEY,
    Addition,
    StateRow,
    decode_add,
    decode_state,
    encode_state,
)
from riverlog.state.transactions.rules import NOBODY
from riverlog.testing.transaction_driver import TOPIC_ID, Rows, TransactionDriver


class TransactionScript:
    """One story. `execute` gives what the machine did, in order."""

    def __init__(self) -> None:
        self.driver = _LoudDriver(self)
        self.producers: dict[str, Producer] = {}
        self.lines: list[str] = []
        self.names: dict[Token, tuple[str, str]] = {}  # what a request is called, who keeps its answer

    async def execute(self, words: list[str]) -> list[str]:
        self.lines = []
        getattr(self, f"do_{words[0]}")(*words[1:])
        return self.lines

    # ------------------------------------------------------------------ commands

    def do_init(self, name: str, expected: str = "") -> None:
        token = self.driver.token()
        self.names[token] = (f"init {name}", name)
        has = self.producers[expected] if expected else NOBODY
        self.send(Init(token, 60_000, has, self.driver.fresh_id()))

    def do_add(self, name: str, *words: str) -> None:
        version, addition = _version(words), _addition(words)
        token = self.driver.token()
        self.names[token] = (f"add {name}", "")
        self.send(Add(token, self.producers[name], version, *addition))

    def do_verify(self, name: str, *words: str) -> None:
        token = self.driver.token()
        self.names[token] = (f"verify {name}", "")
        self.send(Verify(token, self.producers[name], *_addition(words)))

    def do_end(self, name: str, direction: str, *words: str) -> None:
        token = self.driver.token()
        kept = words[-1] if "as" in words else name
        self.names[token] = (f"end {name}", kept)
        is_commit = direction == "commit"
        self.send(End(token, self.producers[name], _version(words), is_commit, self.driver.fresh_id()))

    def do_settle(self, outcome: str = "") -> None:
        settling, self.driver.settling = self.driver.settling, None
        assert settling is not None, "nothing is to be made durable"
        self.send(Settled(settling.number, ErrorKind.STORAGE if outcome else None))

    def do_markers(self, *words: str) -> None:
        asked = self.driver.markers[0]
        some = _addition(words) if words else Addition(tuple(asked.partitions), tuple(asked.groups))
        self.driver.markers[0] = rest = asked._replace(
            partitions=[each for each in asked.partitions if each not in some.partitions],
            groups=[each for each in asked.groups if each not in some.groups],
        )
        if not rest.partitions and not rest.groups:
            del self.driver.markers[0]
        self.send(MarkersWritten(asked.number, *some))

    def do_wait(self, milliseconds: str) -> None:
        self.driver.advance(int(milliseconds))

    def do_load(self, away_ms: str = "1000") -> None:
        self.names.clear()
        self.driver.reload(int(away_ms))
        self.do_state()

    def do_idle(self) -> None:
        self.driver.commit_lazy()

    def do_lookup(self, number: str) -> None:
        self.lines.append(f"transaction {number} {self.driver.outcome(int(number)).value}")

    def do_state(self) -> None:
        machine = self.driver.machine
        number = machine.open_number()
        tail = "" if number is None else f" may write to {number}"
        self.lines.append(f"{machine.state.value} {_producer(machine.producer)}{tail}")

    def do_rows(self) -> None:
        self.lines += [_row(key, value) for key, value in sorted(self.driver.rows.items())] or ["no rows"]

    def do_epoch(self, name: str, epoch: str) -> None:
        producer = Producer(self.driver.fresh_id(), int(epoch))
        row = StateRow(TransactionState.EMPTY, producer, 60_000, self.driver.now.wall_ms)
        self.driver.rows[STATE_KEY] = encode_state(row)
        self.producers[name] = producer
        self.do_load()

    # ------------------------------------------------------------------ what is seen

    def send(self, command: Command) -> None:
        self.driver.send(command)

    def see(self, effect: Effect) -> None:
        match effect:
            case Commit():
                self.lines += [_change(key, value, effect.lazy) for key, value in effect.rows.items()]
            case MakeDurable():
                self.lines.append(f"make durable of {effect.number}: {_places(effect.partitions, ())}")
            case WriteMarkers():
                what = f"{'commit' if effect.committed else 'abort'} {effect.number} as {_producer(effect.producer)}"
                self.lines.append(f"write markers: {what} into {_places(effect.partitions, effect.groups)}")
            case Reply():
                self._see_reply(effect)
            case Schedule():
                pass  # a matter of unit tests

    def _see_reply(self, reply: Reply) -> None:
        if reply.token not in self.names:
            return
        request, kept = self.names.pop(reply.token)
        self.lines.append(f"{request}: {_result(reply.result)}")
        if isinstance(reply.result, ProducerResult) and reply.result.error is None:
            self.producers[kept] = reply.result.producer


class _LoudDriver(TransactionDriver):
    def __init__(self, script: TransactionScript) -> None:
        super().__init__()
        self.script = script

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self.script.see(effect)
        super()._do(effects)

    def commit_lazy(self) -> None:
        rows: Rows = dict(self.lazy)
        super().commit_lazy()
        self.script.lines += [f"durable: {key}" for key in sorted(rows)]


def _version(words: Sequence[str]) -> Version:
    return Version.PLAIN if "v0" in words else Version.EPOCH_BUMPED


def _addition(words: Sequence[str]) -> Addition:
    return Addition(
        tuple(PartitionId(TOPIC_ID, int(word[1:])) for word in words if word.startswith("p")),
        tuple(word for word in words if word.startswith("g")),
    )


def _places(partitions: Sequence[PartitionId], groups: Sequence[str]) -> str:
    return " ".join([*(f"p{partition.index}" for partition in partitions), *groups]) or "nothing"


def _producer(producer: Producer) -> str:
    return "nobody" if producer == NOBODY else f"{producer.producer_id}/{producer.epoch}"


def _result(result: Result) -> str:
    assert isinstance(result, AddResult | ProducerResult)
    if result.error is not None:
        return result.error.name
    if isinstance(result, ProducerResult):
        return _producer(result.producer)
    errors = " ".join("ok" if error is None else error.name for error in result.errors)
    return f"in {Number(result.number)}: {errors}"


def _change(key: str, value: bytes | None, is_lazy: bool) -> str:
    return f"{'later' if is_lazy else 'commit'} {f'remove {key}' if value is None else _row(key, value)}"


def _row(key: str, value: bytes) -> str:
    if key != STATE_KEY:
        return f"{key}: {_places(*decode_add(key, value))}"
    row = decode_state(key, value)
    parts = [f"state: {row.state.value} {_producer(row.producer)} number={row.number}"]
    if row.last != NOBODY:
        parts.append(f"last={_producer(row.last)}")
    if row.marker != NOBODY:
        parts.append(f"marker={_producer(row.marker)}")
    if row.first != Addition():
        parts.append(f"first={_places(*row.first).replace(' ', ',')}")
    return " ".join(parts)
