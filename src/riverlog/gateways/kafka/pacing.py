"""How often a member of a group is heard: whoever asks far more often than its heartbeats need waits, at its own expense.

Each member has a bucket of requests that fills with time, whatever connections it comes by. A request of a member that is
not known here yet is taken from three: its connection's, its group's, which has place for a whole group that starts at
once, and that of all groups together, so that nobody gains by inventing members or groups. Where a bucket is empty the
request goes back to its connection, and the connection is not read until the bucket gives it one: so a flood costs a
bounded number of requests a second, and no memory but what the sockets hold.
Invariants: who waits for a bucket is served in the order in which it came; a bucket that somebody waits for is not
forgotten. Not here: what is done with a request that may go (`session.py`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from riverlog.broker.alarm import Alarm
from riverlog.broker.telemetry import Telemetry
from riverlog.env.clock import Clock
from riverlog.env.tasks import Tasks
from riverlog.gateways.kafka.schema.api_keys import ApiKey


class Rate(NamedTuple):
    """`burst` requests at once, then `per_second`."""

    burst: int
    per_second: int


# What members of groups send without end.
PACED_KEYS: Final = frozenset(
    (ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.HEARTBEAT, ApiKey.LEAVE_GROUP, ApiKey.CONSUMER_GROUP_HEARTBEAT)
)
OF_A_MEMBER: Final = Rate(burst=50, per_second=20)  # clients send one to three a second, and a few more while they join
first_burst: Final = 5  # of a member that has just come: else a new id for every few requests would be no limit
OF_A_CONNECTION: Final = Rate(burst=200, per_second=20)  # joins, and ids that nobody has seen
OF_STRANGERS: Final = Rate(burst=10_000, per_second=200)  # of one group together
OF_ALL_STRANGERS: Final = Rate(burst=20_000, per_second=500)  # of all groups
buckets_max: Final = 100_000
turn_ms_min: Final = 25  # from one time that a bucket gives to the next: waking up costs as much as a request


def member_of(message: Any) -> str:
    """Who sent it, in its own words; of LeaveGroup with several members the first. "": nobody yet."""
    leaving = getattr(message, "members", ())
    member_id: str = leaving[0].member_id if leaving else message.member_id
    return member_id


class Paced(Protocol):
    """Who waits: a connection."""

    strangers: Bucket | None  # by which it is heard for members that are not known; kept here for the pace

    def may_go(self) -> bool:
        """It is its turn; False: it is not there any more."""
        ...


class Bucket:
    __slots__ = ("at_ms", "deadline_ms", "rate", "tokens", "waiting")

    def __init__(self, rate: Rate, now_ms: int, tokens: int | None = None) -> None:
        self.rate = rate
        self.tokens = float(rate.burst if tokens is None else tokens)
        self.at_ms = now_ms
        self.waiting: deque[tuple[Paced, Sequence[Bucket]]] = deque()  # with the buckets that come after this
        self.deadline_ms: int | None = None  # the alarm's

    def fill(self, now_ms: int) -> None:
        self.tokens = min(self.rate.burst, self.tokens + (now_ms - self.at_ms) * self.rate.per_second / 1_000)
        self.at_ms = now_ms

    def take(self, now_ms: int) -> bool:
        if self.waiting:
            return False
        self.fill(now_ms)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    @property
    def next_ms(self) -> int:
        """When there will be one more, or several."""
        missing = 1 - self.tokens
        return self.at_ms + max(turn_ms_min, -int(-missing * 1_000 // self.rate.per_second))


class Pace:
    """Of all groups."""

    def __init__(self, clock: Clock, tasks: Tasks, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._alarm: Alarm[Bucket] = Alarm(clock, tasks, self._due)
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()  # by group and member; "": strangers
        self._strangers = Bucket(OF_ALL_STRANGERS, clock.monotonic_ms())

    def take(self, group_id: str, member_id: str, paced: Paced) -> bool:
        """Whether a request may go now; else `paced` is told when it may."""
        now_ms = self._clock.monotonic_ms()
        bucket = self._buckets.get((group_id, member_id)) if member_id else None
        if bucket is None:
            if paced.strangers is None:
                paced.strangers = Bucket(OF_A_CONNECTION, now_ms)
            buckets = (paced.strangers, self._bucket(group_id, "", OF_STRANGERS, now_ms), self._strangers)
            if not self._passes(paced, buckets, now_ms):
                return False
            self.went(group_id, member_id)
            return True
        self._buckets.move_to_end((group_id, member_id))
        return self._passes(paced, (bucket,), now_ms)

    def went(self, group_id: str, member_id: str) -> None:
        """A request of the member went, at once or after it had waited: it is no stranger from now on."""
        if member_id and (group_id, member_id) not in self._buckets:
            self._bucket(group_id, member_id, OF_A_MEMBER, self._clock.monotonic_ms(), first_burst)

    def _passes(self, paced: Paced, buckets: Sequence[Bucket], now_ms: int) -> bool:
        """Whether all the buckets give a request; else it waits for the first that does not."""
        for at, bucket in enumerate(buckets):
            if not bucket.take(now_ms):
                self._telemetry.delayed_requests += 1
                bucket.waiting.append((paced, buckets[at + 1 :]))
                if bucket.deadline_ms is None:
                    self._alarm.schedule(bucket, bucket.next_ms)
                return False
        return True

    def _bucket(self, group_id: str, member_id: str, rate: Rate, now_ms: int, tokens: int | None = None) -> Bucket:
        key = group_id, member_id
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(rate, now_ms, tokens)
            self._forget_some()
        else:
            self._buckets.move_to_end(key)
        return bucket

    def _forget_some(self) -> None:
        """Those that were not used for the longest time; who waits for one keeps it."""
        for _ in range(len(self._buckets) - buckets_max):
            key, bucket = self._buckets.popitem(last=False)
            if bucket.waiting:
                self._buckets[key] = bucket

    def _due(self, bucket: Bucket) -> None:
        now_ms = self._clock.monotonic_ms()
        bucket.fill(now_ms)
        while bucket.waiting and bucket.tokens >= 1:
            bucket.tokens -= 1  # before: the one that goes may bring the next at once
            paced, others = bucket.waiting.popleft()
            if self._passes(paced, others, now_ms) and not paced.may_go():
                bucket.tokens += 1
        if bucket.waiting:
            self._alarm.schedule(bucket, bucket.next_ms)
