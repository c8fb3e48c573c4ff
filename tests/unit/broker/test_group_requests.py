"""What the coordinator is asked, where something is left out."""

from __future__ import annotations

from riverlog.broker.group_requests import CLASSIC_TYPE, GroupListing, MemberAsked, PartitionCommit
from riverlog.state.groups.commands import GroupState


def test_who_says_nothing_is_nobody_of_the_group() -> None:
    assert MemberAsked() == (-1, "", None)


def test_a_commit_without_epoch_and_metadata() -> None:
    assert PartitionCommit(0, 5) == (0, 5, -1, "")


def test_groups_are_classic_unless_said_otherwise() -> None:
    assert GroupListing("g", GroupState.EMPTY, "").group_type == CLASSIC_TYPE == "classic"
