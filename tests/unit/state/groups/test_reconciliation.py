"""One member's way to its target: each rule of KIP-848 alone."""

from __future__ import annotations

from collections.abc import Collection

from riverlog.base.ids import TopicId
from riverlog.state.groups.assignment import NOTHING, Assignment
from riverlog.state.groups.reconciliation import MemberState, Standing, reconcile

T = TopicId(b"t" * 16)
STABLE, UNREVOKED, UNRELEASED = MemberState.STABLE, MemberState.UNREVOKED_PARTITIONS, MemberState.UNRELEASED_PARTITIONS


def parts(*indexes: int) -> Assignment:
    return {T: frozenset(indexes)} if indexes else NOTHING


def go(
    standing: Standing, target: Assignment, owned: Collection[int] | None, taken: Collection[int] = (), epoch: int = 5
) -> Standing:
    said = None if owned is None else {T: sorted(owned)}
    return reconcile(standing, epoch, target, lambda topic, index: index not in taken, said)


def test_who_has_its_target_stays() -> None:
    standing = Standing(5, 4, STABLE, parts(0))
    assert go(standing, parts(0), None) is standing


def test_who_joins_gets_what_is_free_in_the_targets_epoch() -> None:
    assert go(Standing(), parts(0, 1), []) == Standing(5, 0, STABLE, parts(0, 1))


def test_what_others_have_is_waited_for() -> None:
    waiting = go(Standing(), parts(0, 1), [], taken=[1])
    assert waiting == Standing(5, 0, UNRELEASED, parts(0))
    assert go(waiting, parts(0, 1), None, taken=[1]) == waiting
    assert go(waiting, parts(0, 1), None) == Standing(5, 0, STABLE, parts(0, 1))


def test_nothing_is_given_before_the_rest_is_given_up() -> None:
    before = Standing(4, 3, STABLE, parts(0, 1))
    revoking = go(before, parts(1, 2), None)
    assert revoking == Standing(4, 3, UNREVOKED, parts(1), parts(0))
    assert go(revoking, parts(1, 2), None) is revoking, "it did not say"
    assert go(revoking, parts(1, 2), [0, 1]) is revoking, "it has not yet"
    assert go(revoking, parts(1, 2), [1]) == Standing(5, 4, STABLE, parts(1, 2))


def test_who_already_gave_it_up_need_not_be_asked() -> None:
    assert go(Standing(4, 3, STABLE, parts(0, 1)), parts(1), [1]) == Standing(5, 4, STABLE, parts(1))


def test_a_new_target_while_it_gives_up_can_want_more() -> None:
    revoking = Standing(3, 2, UNREVOKED, parts(1, 2), parts(0))
    more = go(revoking, parts(1), [1, 2])
    assert more == Standing(4, 3, UNREVOKED, parts(1), parts(2))
    assert go(more, parts(1), [1]) == Standing(5, 4, STABLE, parts(1))


def test_a_partition_that_comes_back_is_given_again_only_once_it_was_given_up() -> None:
    revoking = Standing(4, 3, UNREVOKED, parts(1), parts(0))
    assert go(revoking, parts(0, 1), [0, 1]) is revoking
    assert go(revoking, parts(0, 1), [1]) == Standing(5, 4, STABLE, parts(0, 1))


def test_waiting_for_a_partition_and_losing_another() -> None:
    waiting = Standing(4, 3, UNRELEASED, parts(0))
    assert go(waiting, parts(1), [0]) == Standing(4, 3, UNREVOKED, NOTHING, parts(0))
    assert go(waiting, parts(1), []) == Standing(5, 4, STABLE, parts(1))


def test_only_stable_in_the_epoch_is_reconciled() -> None:
    assert Standing(5, 4, STABLE).is_reconciled(5)
    assert not Standing(5, 4, UNRELEASED).is_reconciled(5)
    assert not Standing(4, 3, STABLE).is_reconciled(5)
