"""Effects come in the order in which they are to be done."""

from __future__ import annotations

from riverlog.base.ids import PartitionId, TopicId
from riverlog.state.groups.commands import CommitOffsets, CommittedOffset, Token
from riverlog.state.groups.effects import Commit, Reply, Schedule
from riverlog.testing.group_driver import GroupDriver


def test_a_commit_stands_before_the_reply_that_depends_on_it() -> None:
    driver = GroupDriver()
    offsets = {PartitionId(TopicId(b"t" * 16), 0): CommittedOffset(5, -1, "", 0)}
    commit, reply = driver.machine.step(CommitOffsets(driver.token(), "", None, -1, offsets), driver.now)
    assert isinstance(commit, Commit)
    assert list(commit.rows) == ["offset/dHR0dHR0dHR0dHR0dHR0dA/0"]
    assert reply == Reply(Token(1), None)


def test_the_next_deadline_is_said_when_it_changes() -> None:
    driver = GroupDriver()
    driver.stable(1)
    assert driver.deadline_ms == driver.machine.deadline_ms
    token = driver.token()
    effects = driver.machine.step(CommitOffsets(token, "", None, -1, {}), driver.now)
    assert not any(isinstance(effect, Schedule) for effect in effects)
