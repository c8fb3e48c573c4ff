"""How often a member of a group is heard: whoever asks far more often than its heartbeats need waits, at its own expense.

Each member has a bucket of requests that fills with time, whatever connections it comes by; those whom the group does
not know yet share one, which has place for a whole group that starts at once. Where a bucket is empty the request goes
back to its connection, and the connection is not read until the bucket gives it one: so a flood costs a bounded number
of requests a second, and no memory but what the sockets hold.
Invariants: who waits for a bucket is served in the order in which it came; a bucket that somebody waits for is not
forgotten. Not here: what is done with a request that may go (`session.py`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final, NamedTuple, Protocol

from riverlog.broker.alarm import Alarm
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
OF_STRANGERS: Final = Rate(burst=4_000, per_second=200)  # of one group together: joins, and ids that nobody has seen
buckets_max: Final = 100_000
turn_ms_min: Final = 25  # from one time that a bucket gives to the next: waking up costs as much as a request


def member_of(message: Any) -> str:
    """Who sent it, in its own words; of LeaveGroup with several members the first. "": nobody yet."""
    leaving = getattr(message, "members", ())
    member_id: str = leaving[0].member_id if leaving else message.member_id
    return member_id


class Paced(Protocol):
    """Who waits: a connection."""

    def may_go(self) -> bool:
        """It is its turn; False: it is not there any more."""
        ...


class Bucket:
    __slots__ = ("at_ms", "deadline_ms", "rate", "tokens", "waiting")

    def __init__(self, rate: Rate, now_ms: int) -> None:
        self.rate = rate
        self.tokens = float(rate.burst)
        self.at_ms = now_ms
        self.waiting: deque[Paced] = deque()
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
    """Of all groups. `asked` and `delayed` count requests."""

    def __init__(self, clock: Clock, tasks: Tasks) -> None:
        self.asked = 0
        self.delayed = 0
        self._clock = clock
        self._alarm: Alarm[Bucket] = Alarm(clock, tasks, self._due)
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()  # by group and member; "": strangers

    def take(self, group_id: str, member_id: str, paced: Paced) -> bool:
        """Whether a request may go now; else `paced` is told when it may."""
        self.asked += 1
        now_ms = self._clock.monotonic_ms()
        bucket = self._buckets.get((group_id, member_id)) if member_id else None
        if bucket is None:
            bucket = self._bucket(group_id, "", OF_STRANGERS, now_ms)
            if bucket.take(now_ms):
                if member_id:
                    self._bucket(group_id, member_id, OF_A_MEMBER, now_ms)
                return True
        else:
            self._buckets.move_to_end((group_id, member_id))
            if bucket.take(now_ms):
                return True
        self.delayed += 1
        bucket.waiting.append(paced)
        if bucket.deadline_ms is None:
            self._alarm.schedule(bucket, bucket.next_ms)
        return False

    def _bucket(self, group_id: str, member_id: str, rate: Rate, now_ms: int) -> Bucket:
        key = group_id, member_id
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(rate, now_ms)
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
        bucket.fill(self._clock.monotonic_ms())
        while bucket.waiting and bucket.tokens >= 1:
            bucket.tokens -= 1  # before: the one that goes may bring the next at once
            if not bucket.waiting.popleft().may_go():
                bucket.tokens += 1
        if bucket.waiting:
            self._alarm.schedule(bucket, bucket.next_ms)
