"""Random histories of one transactional id: several clients of all versions, some with epochs of long ago, answers that are
lost and asked for again, time that passes, commits that are slow, and a process that ends between any two effects.

The model is what everybody else saw: the rows that became durable, the answers that were given, the records and markers in
the partitions. Whatever happens: a decision never changes, no epoch goes back or is given to two, nothing is written outside
of a durable transaction, what was answered stays true, no request is lost or waits too long, and everything comes to an end.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from riverlog.base.errors import ErrorKind
from riverlog.base.ids import PartitionId
from riverlog.state.transactions.commands import (
    AddResult,
    Command,
    MarkersWritten,
    Number,
    Producer,
    ProducerResult,
    Settled,
    Token,
    TransactionSettings,
    TransactionState,
    Version,
)
from riverlog.state.transactions.effects import Commit, Effect, Reply, WriteMarkers
from riverlog.state.transactions.rows import (
    ADD_PREFIX,
    STATE_KEY,
    Addition,
    StateRow,
    add_key,
    decode_add,
    decode_state,
    encode_state,
)
from riverlog.state.transactions.rules import COMPLETE, NOBODY, PREPARED
from riverlog.testing.transaction_driver import TOPIC_ID, Rows, TransactionDriver

PARTITIONS: Final = [PartitionId(TOPIC_ID, index) for index in range(3)]
GROUPS: Final = ["g", "h"]
TIMEOUT_MS: Final = 10_000
EXPIRATION_MS: Final = 40_000
WAIT_MS_MAX: Final = 1_000

places = st.lists(st.sampled_from(PARTITIONS), max_size=2)
groups = st.lists(st.sampled_from(GROUPS), max_size=1)
back = st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2, 4])  # which producer: the newest that is known, or one before
parts = st.sampled_from([0, 1, 2, 9, 9])


class Request(NamedTuple):
    kind: str
    producer: Producer
    sent_ms: int  # monotonic
    version: Version = Version.EPOCH_BUMPED
    committed: bool = False
    partitions: tuple[PartitionId, ...] = ()
    groups: tuple[str, ...] = ()


class Seen:
    """What everybody else knows of the id, since it last began."""

    def __init__(self) -> None:
        self.row: StateRow | None = None  # durable
        self.decisions: dict[Number, bool] = {}
        self.openers: dict[Number, Producer] = {}
        self.settled: set[Number] = set()
        self.admitted: dict[Number, set[PartitionId]] = defaultdict(set)
        self.heard: dict[tuple[Number, PartitionId | str], bool] = {}  # markers and folded groups
        self.written: dict[Number, set[PartitionId | str]] = defaultdict(set)
        self.parents: dict[Producer, Producer | Token] = {}  # who asked for it
        self.plain: set[Producer] = set()  # an older client ended something with it


class WatchedDriver(TransactionDriver):
    """Sees rows when they become durable and answers when they leave."""

    def __init__(self, model: TransactionHistory) -> None:
        settings = TransactionSettings(expiration_ms=EXPIRATION_MS, settle_wait_ms_max=WAIT_MS_MAX)
        super().__init__(settings, holds_commits=True)
        self.model = model

    def send(self, command: Command) -> list[Effect]:
        effects = super().send(command)
        for effect in effects:
            if isinstance(effect, Commit) and STATE_KEY in effect.rows:
                self.model.see_state(effect.rows[STATE_KEY])
        return effects

    def _store(self, rows: Rows) -> None:
        super()._store(rows)
        self.model.see_rows(rows)

    def _deliver(self, effect: Reply | WriteMarkers) -> None:
        super()._deliver(effect)
        if isinstance(effect, Reply):
            self.model.hear(effect.token)


class TransactionHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.driver = WatchedDriver(self)
        self.seen = Seen()
        self.asked: dict[Token, Request] = {}
        self.known: list[Producer] = []
        self.last: Request | None = None
        self.version = Version.EPOCH_BUMPED
        self.expired = False  # and its rows are not removed yet

    # ------------------------------------------------------------------ what is seen

    def see_state(self, value: bytes | None) -> None:
        """What the machine wants to be written."""
        if value is None:
            self.expired = True
            return
        row = decode_state(STATE_KEY, value)
        if row.state in COMPLETE and self.seen.row is not None and self.seen.row.number == row.number:
            for place in (*self.durable_addition().partitions, *self.durable_addition().groups):
                assert self.seen.heard[(row.number, place)] is row.committed, "completed, and not everybody has heard"

    def see_rows(self, rows: Rows) -> None:
        before, seen = self.seen.row, self.seen
        if STATE_KEY not in self.driver.rows:
            assert not self.driver.rows, "rows are left of an id that expired"
            self.seen = Seen()
            self.expired = False
            return
        row = decode_state(STATE_KEY, self.driver.rows[STATE_KEY])
        if self.expired and before is not None and row.state is TransactionState.EMPTY and row.producer.epoch == 0:
            assert row.number in (0, before.number)
            assert row.producer.producer_id > before.producer.producer_id
            self.expired = False
            self.seen = seen = Seen()
            before = None
        seen.row = row
        if before is not None:
            assert row.number in (before.number, before.number + 1)
            is_newer = row.producer.producer_id > before.producer.producer_id
            assert is_newer or row.producer >= before.producer, "an epoch went back"
        if row.state is TransactionState.ONGOING:
            assert row.number not in seen.decisions, "a decision is gone"
            assert seen.openers.setdefault(row.number, row.producer) == row.producer
        elif row.number:
            is_new = row.number not in seen.decisions
            assert seen.decisions.setdefault(row.number, row.committed) == row.committed, "a decision changed"
            if is_new and row.committed and self.durable_addition().partitions:
                assert row.number in seen.settled, "committed before its records were durable"
        if row.state not in PREPARED and row.state is not TransactionState.ONGOING:
            for place in seen.written[row.number]:
                assert (row.number, place) in seen.heard, "written to, and has not heard of the end"

    def durable_addition(self) -> Addition:
        row = self.seen.row
        if row is None or (row.state is not TransactionState.ONGOING and row.state not in PREPARED):
            return Addition()
        partitions, names = list(row.first.partitions), list(row.first.groups)
        for key, value in self.driver.rows.items():
            if key.startswith(ADD_PREFIX):
                assert key.startswith(add_key(row.number, 0)[:-1]), "a row of another transaction"
                addition = decode_add(key, value)
                partitions += addition.partitions
                names += addition.groups
        return Addition(tuple(partitions), tuple(names))

    def hear(self, token: Token) -> None:
        request = self.asked.pop(token, None)
        result = self.driver.answers[token]
        if request is None:
            return
        assert isinstance(result, AddResult | ProducerResult)
        if result.error is ErrorKind.CONCURRENT_TRANSACTIONS:
            waited_ms = self.driver.now.monotonic_ms - request.sent_ms
            assert waited_ms >= WAIT_MS_MAX, "refused without a wait"
        row = self.seen.row
        if result.error is ErrorKind.PRODUCER_FENCED and request.kind == "init" and row is not None:
            is_its_own = row.producer == request.producer or self.seen.parents.get(row.producer) == request.producer
            assert row.state is not TransactionState.EMPTY or not is_its_own, "its own bump is held against it"
        if result.error is not None:
            return
        if isinstance(result, ProducerResult):
            self.hear_producer(token, request, result.producer)
        elif request.kind == "add" and (request.partitions or request.groups):
            durable = self.durable_addition()
            assert set(request.partitions) <= set(durable.partitions), "answered before it was durable"
            assert set(request.groups) <= set(durable.groups)
            self.seen.admitted[result.number] |= set(request.partitions)
            self.seen.written[result.number] |= set(request.groups)

    def hear_producer(self, token: Token, request: Request, producer: Producer) -> None:
        seen = self.seen
        assert seen.row is not None
        assert producer.epoch <= 32_766
        is_newer = seen.row.producer.producer_id > producer.producer_id
        assert is_newer or seen.row.producer >= producer, "answered before it was durable"
        if request.kind == "end":
            numbers = [number for number, opener in seen.openers.items() if opener == request.producer]
            is_plain = request.version < Version.EPOCH_BUMPED
            if request.committed and (numbers or not is_plain):  # the plain version cannot tell whose commit it was
                assert seen.decisions.get(max(numbers)) is True, "told that it is committed"
            elif not request.committed and numbers and request.producer not in seen.plain:
                assert seen.decisions.get(max(numbers)) is False, "told that it is aborted"
        if request.kind == "end" and request.version < Version.EPOCH_BUMPED:
            assert producer == request.producer
            return
        parent: Producer | Token = token if request.producer == NOBODY else request.producer
        assert seen.parents.setdefault(producer, parent) == parent, "given to two"
        if producer not in self.known:
            self.known.append(producer)

    # ------------------------------------------------------------------ clients

    @initialize(epoch=st.sampled_from([None, None, 32_763, 32_765]), version=st.sampled_from(list(Version)))
    def begin(self, epoch: int | None, version: Version) -> None:
        """Some ids have had very many transactions before."""
        self.version = version
        if epoch is not None:
            row = StateRow(TransactionState.EMPTY, Producer(500, epoch), TIMEOUT_MS, self.driver.now.wall_ms)
            self.driver.rows[STATE_KEY] = encode_state(row)
            self.driver.reload()
            self.seen.row = row
            self.known.append(row.producer)

    def producer(self, index: int) -> Producer:
        return self.known[-1 - index] if index < len(self.known) else Producer(7, 0)

    def ask(self, request: Request) -> None:
        driver = self.driver
        self.last = request
        token = Token(driver._tokens + 1)
        self.asked[token] = request._replace(sent_ms=driver.now.monotonic_ms)
        match request.kind:
            case "init":
                assert driver.init(request.producer, TIMEOUT_MS) == token
            case "add":
                driver.add(request.producer, *request.partitions, groups=request.groups, version=request.version)
            case "verify":
                driver.verify(request.producer, *request.partitions, groups=request.groups)
            case "end":
                if request.version < Version.EPOCH_BUMPED:
                    self.seen.plain.add(request.producer)
                driver.end(request.producer, request.committed, request.version)

    @rule(index=back, brings_it=st.booleans())
    def init(self, index: int, brings_it: bool) -> None:
        self.ask(Request("init", self.producer(index) if brings_it and self.known else NOBODY, 0))

    @rule(index=back, partitions=places, names=groups)
    def add(self, index: int, partitions: list[PartitionId], names: list[str]) -> None:
        producer = self.producer(index)
        self.ask(Request("add", producer, 0, self.version, False, tuple(partitions), tuple(names)))

    @rule(index=back, partitions=places, names=groups)
    def verify(self, index: int, partitions: list[PartitionId], names: list[str]) -> None:
        self.ask(Request("verify", self.producer(index), 0, self.version, False, tuple(partitions), tuple(names)))

    @rule(index=back, committed=st.booleans(), other_version=st.sampled_from([None, None, None, *Version]))
    def end(self, index: int, committed: bool, other_version: Version | None) -> None:
        version = self.version if other_version is None else other_version
        self.ask(Request("end", self.producer(index), 0, version, committed))

    @rule()
    @precondition(lambda self: self.last is not None)
    def repeat(self) -> None:
        """The answer was lost, or took too long."""
        assert self.last is not None
        self.ask(self.last)

    @rule(index=back, partition=st.sampled_from(PARTITIONS))
    def append(self, index: int, partition: PartitionId) -> None:
        """As the broker: in the same moment, for whom the Add was answered."""
        driver, number = self.driver, self.driver.machine.open_number()
        if number is None or partition not in self.seen.admitted[number]:
            return
        if driver.machine.admits(self.producer(index), partition):
            assert driver.settling is None, "a record that the end does not wait for"
            assert partition in self.durable_addition().partitions, "a record outside of a durable transaction"
            assert (number, partition) not in self.seen.heard, "a record after the marker"
            self.seen.written[number].add(partition)

    @rule(first=places, second=places, names=groups)
    def open_transaction(self, first: list[PartitionId], second: list[PartitionId], names: list[str]) -> None:
        """A client that meets no trouble for a while, so that histories get far."""
        self.init(0, brings_it=True)
        self.quiet()
        self.add(0, first, names)
        self.add(0, second, [])
        self.quiet()
        for partition in PARTITIONS:
            self.append(0, partition)

    @rule(
        places=st.tuples(places, places, groups),
        committed=st.booleans(),
        succeeds=st.booleans(),
        delivered_count=st.integers(-1, 2),
    )
    def end_and_crash(
        self,
        places: tuple[list[PartitionId], list[PartitionId], list[str]],
        committed: bool,
        succeeds: bool,
        delivered_count: int,
    ) -> None:
        self.open_transaction(*places)
        self.end(0, committed, None)
        if self.driver.settling is not None:
            self.settle(succeeds)
        self.crash(delivered_count, 10)

    @rule(count=st.integers(1, 3), partitions=places, committed=st.booleans())
    def whole_transactions(self, count: int, partitions: list[PartitionId], committed: bool) -> None:
        for _ in range(count):
            self.init(0, brings_it=True)
            self.quiet()
            self.add(0, partitions, ["g"])
            self.quiet()
            self.append(0, PARTITIONS[0])
            self.end(0, committed, None)
            self.quiet()

    # ------------------------------------------------------------------ the disk, the log, the clock

    @rule()
    @precondition(lambda self: self.driver.pending)
    def commit(self) -> None:
        self.driver.commit_one()

    @rule()
    @precondition(lambda self: self.driver.lazy and not self.driver.pending)
    def commit_lazily(self) -> None:
        self.driver.commit_lazy()

    @rule(succeeds=st.sampled_from([True, True, False]))
    @precondition(lambda self: self.driver.settling is not None)
    def settle(self, succeeds: bool) -> None:
        settling = self.driver.settling
        assert settling is not None
        if succeeds:
            self.seen.settled.add(settling.number)
        self.driver.settle(None if succeeds else Settled(settling.number, ErrorKind.STORAGE))

    @rule(count=parts, is_told=st.booleans())
    @precondition(lambda self: self.driver.markers)
    def write_markers(self, count: int, is_told: bool) -> None:
        """Part of the partitions and groups hear of the decision; the machine is told so, or not yet."""
        asked = self.driver.markers.pop(0)
        partitions, names = asked.partitions[:count], asked.groups[: max(count - len(asked.partitions), 0)]
        self.check_marker(asked)
        for place in (*partitions, *names):
            assert self.seen.heard.setdefault((asked.number, place), asked.committed) is asked.committed
        rest = asked._replace(partitions=asked.partitions[count:], groups=asked.groups[len(names) :])
        if not is_told:
            rest = asked
        if rest.partitions or rest.groups:
            self.driver.markers.insert(0, rest)
        if is_told:
            self.driver.send(MarkersWritten(asked.number, partitions, names))

    def check_marker(self, asked: WriteMarkers) -> None:
        seen, row = self.seen, self.seen.row
        assert seen.decisions[asked.number] is asked.committed, "a marker of what was not decided"
        opener = seen.openers[asked.number]
        assert row is not None
        if row.producer == opener:
            assert asked.producer == opener
            assert opener in seen.plain, "late records of the transaction would land in the next one"
        else:
            assert asked.producer == (opener.producer_id, opener.epoch + 1), "it refuses no late record"

    @rule(milliseconds=st.sampled_from([1, 400, 999, 1_000, 5_000, 11_000, 41_000]))
    def wait(self, milliseconds: int) -> None:
        self.driver.advance(milliseconds)

    @rule(delivered_count=st.integers(-1, 2), away_ms=st.sampled_from([10, 3_000, 12_000, 50_000]))
    def crash(self, delivered_count: int, away_ms: int) -> None:
        """The process ends; of what waited for the oldest commit the first effects were done, or it was not made (-1)."""
        if delivered_count >= 0 and self.driver.pending:
            self.driver.commit_one(delivered_count)
        self.asked.clear()
        self.expired = False
        self.driver.reload(away_ms)

    def quiet(self) -> None:
        """Nothing is under way any more."""
        driver = self.driver
        while driver.pending or driver.settling is not None or driver.markers:
            if driver.pending:
                driver.commit_one()
            elif driver.settling is not None:
                self.settle(succeeds=True)
            else:
                self.write_markers(1, is_told=True)
        if driver.lazy:
            driver.commit_lazy()

    # ------------------------------------------------------------------ always

    @invariant()
    def requests_wait_for_something(self) -> None:
        driver, machine = self.driver, self.driver.machine
        replies = [each.token for _, behind in driver.pending for each in behind if isinstance(each, Reply)]
        waiting = machine.waiting()
        assert sorted([*replies, *waiting]) == sorted(self.asked), "a request is lost, or waits for nothing"
        parked = waiting[1:] if machine._settling is not None else waiting
        for token in parked:
            assert driver.now.monotonic_ms - self.asked[token].sent_ms < WAIT_MS_MAX, "it waits too long"

    @invariant()
    def it_is_asked_for_in_time(self) -> None:
        driver, machine = self.driver, self.driver.machine
        if machine.deadline_ms is not None:
            assert driver.deadline_ms is not None
            assert driver.deadline_ms <= machine.deadline_ms
        if machine.state is TransactionState.ONGOING and driver.settling is None:
            start_ms = machine._row.start_ms if machine._row is not None else 0
            over_ms = driver.now.monotonic_ms + start_ms + TIMEOUT_MS - driver.now.wall_ms
            assert driver.deadline_ms is not None
            assert driver.deadline_ms <= max(over_ms, driver.now.monotonic_ms), "open past its time-out"

    @invariant()
    def the_rows_give_the_machine_back(self) -> None:
        driver = self.driver
        if driver.pending or driver.lazy or driver.machine._row is None:
            return
        assert decode_state(STATE_KEY, driver.rows[STATE_KEY]) == driver.machine._row
        if driver.machine.state is TransactionState.ONGOING:
            durable = self.durable_addition()
            assert set(durable.partitions) == set(driver.machine._partitions)
            assert set(durable.groups) == set(driver.machine._groups)

    def teardown(self) -> None:
        """Everything comes to an end, and a new client can go on."""
        self.quiet()
        assert not self.asked
        assert self.driver.machine.state not in PREPARED
        self.driver.advance(TIMEOUT_MS)
        self.quiet()
        assert self.driver.machine.state is not TransactionState.ONGOING
        self.ask(Request("init", NOBODY, 0))
        self.quiet()
        assert not self.asked
        self.ask(Request("add", self.known[-1], 0, self.version, False, (PARTITIONS[0],)))
        self.quiet()
        number = self.driver.machine.open_number()
        assert number is not None
        assert self.driver.machine.admits(self.known[-1], PARTITIONS[0])


TestTransactionHistory = TransactionHistory.TestCase
TestTransactionHistory.settings = settings(
    max_examples=150, stateful_step_count=40, derandomize=True, database=None, deadline=None
)
