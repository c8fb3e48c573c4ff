"""How one member of the consumer protocol goes from what it has to what it shall have (KIP-848).

A member gives up first: while it still owns what it has to give up, it stays in its epoch (UNREVOKED_PARTITIONS). Then it
goes to the epoch of the target and is given all that nobody else has; if somebody still has a part, it is
UNRELEASED_PARTITIONS and gets that part as it becomes free. STABLE in the target's epoch: it has its target.

Invariant: a partition is given only when no other member has it, be it assigned or still to be given up.
Not here: who asks when, epochs of the group, time-outs (`consumer.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import NOTHING, Assignment, common, has_any_of, united, without


class MemberState(IntEnum):
    """Persisted, see docs/formats/group-rows.md: never renumber."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2


class Standing(NamedTuple):
    """Where a member stands. `assigned`: what it may use; `revoking`: what it has yet to give up."""

    epoch: int = 0
    previous_epoch: int = -1
    state: MemberState = MemberState.STABLE
    assigned: Assignment = NOTHING
    revoking: Assignment = NOTHING

    def is_reconciled(self, target_epoch: int) -> bool:
        return self.epoch == target_epoch and self.state is MemberState.STABLE


def reconcile(
    standing: Standing,
    target_epoch: int,
    target: Assignment,
    is_free: Callable[[TopicId, int], bool],
    owned: Mapping[TopicId, Sequence[int]] | None,
) -> Standing:
    """Where it stands next. `is_free`: no *other* member has that partition. `owned` None: it did not say."""
    if standing.state is MemberState.STABLE and standing.epoch == target_epoch:
        return standing
    epoch = standing.epoch
    if standing.state is MemberState.UNREVOKED_PARTITIONS:
        if owned is None or has_any_of(owned, standing.revoking):
            return standing
        epoch = min(epoch + 1, target_epoch)
    kept = common(standing.assigned, target)
    revoking = without(standing.assigned, target)
    if revoking and (owned is None or has_any_of(owned, revoking)):
        return _moved(standing, epoch, MemberState.UNREVOKED_PARTITIONS, kept, revoking)
    wanted = without(target, kept)
    given = {topic_id: frozenset(i for i in indexes if is_free(topic_id, i)) for topic_id, indexes in wanted.items()}
    given = {topic_id: indexes for topic_id, indexes in given.items() if indexes}
    is_whole = sum(map(len, given.values())) == sum(map(len, wanted.values()))
    state = MemberState.STABLE if is_whole else MemberState.UNRELEASED_PARTITIONS
    return _moved(standing, target_epoch, state, united(kept, given), NOTHING)


def _moved(standing: Standing, epoch: int, state: MemberState, assigned: Assignment, revoking: Assignment) -> Standing:
    """An epoch that stays leaves the one before it, too: nothing was said in a new epoch that could be lost."""
    previous_epoch = standing.previous_epoch if epoch == standing.epoch else standing.epoch
    return Standing(epoch, previous_epoch, state, assigned, revoking)
