"""From answers of the coordinator to members: both protocols, and bytes that no consumer wrote."""

from __future__ import annotations

from typing import Any

import pytest

from riverlog.cli.errors import CommandError
from riverlog.cli.members import describe_group
from riverlog.gateways.kafka.schema import consumer_group_describe as consumer
from riverlog.gateways.kafka.schema import describe_groups as classic
from riverlog.gateways.kafka.schema.api_keys import ApiKey
from riverlog.gateways.kafka.schema.consumer_protocol_assignment import ConsumerProtocolAssignment, TopicPartition
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.gateways.kafka.wire import encode_structure
from riverlog.testing.group_driver import subscription


class Told:
    """A cluster that answers what it was given."""

    def __init__(self, **groups: Any) -> None:
        self.answers = {ApiKey[name.upper()]: group for name, group in groups.items()}

    def served(self) -> frozenset[int]:
        return frozenset(self.answers)

    def ask_coordinator(self, kind: int, key: str, api_key: ApiKey, request: object, code_of: Any) -> Any:
        answer = type("Answer", (), {"groups": [self.answers[api_key]]})
        code_of(answer)
        return answer


def describe(told: Told) -> Any:
    return describe_group(told, "g")  # type: ignore[arg-type]  # it is asked no more than this


def shares(topic: str, *partitions: int) -> consumer.Assignment:
    return consumer.Assignment(topic_partitions=[consumer.TopicPartitions(topic_name=topic, partitions=partitions)])


def test_a_group_in_migration_has_members_of_both_protocols() -> None:
    members = [
        consumer.Member(
            member_id="b", client_id="new", client_host="/10.0.0.1", member_epoch=7, member_type=1,
            subscribed_topic_regex="^t", assignment=shares("t", 1, 0), target_assignment=shares("t", 0),
        ),
        consumer.Member(
            member_id="a", client_id="old", instance_id="i", member_epoch=6, member_type=0, subscribed_topic_names=["u", "t"]
        ),
    ]  # fmt: skip
    group = describe(
        Told(
            consumer_group_describe=consumer.DescribedGroup(
                group_id="g", group_state="Reconciling", group_epoch=8, assignment_epoch=7, assignor_name="range",
                members=members,
            )
        )
    )  # fmt: skip
    assert (group.protocol, group.state, group.epoch, group.assignment_epoch) == ("consumer", "reconciling", 8, 7)
    assert (group.assignor, group.is_dead) == ("range", False)
    new, old = group.members
    assert (new.member_id, new.protocol, new.epoch, new.host, new.regex) == ("b", "consumer", 7, "10.0.0.1", "^t")
    assert (new.assigned, new.target) == ({"t": [0, 1]}, {"t": [0]})
    assert (old.protocol, old.instance, old.topics, old.regex) == ("classic", "i", ["t", "u"], None)
    assert (new.name(), old.name()) == ("b (new at 10.0.0.1)", "a (old at , instance i)")


@pytest.mark.parametrize("knows_both", [True, False])
def test_a_classic_group(knows_both: bool) -> None:
    assignment = ConsumerProtocolAssignment(assigned_partitions=[TopicPartition(topic="t", partitions=[2, 1])])
    member = classic.DescribedGroupMember(
        member_id="a", client_id="c", client_host="/h", member_metadata=subscription("t", "s"),
        member_assignment=b"\x00\x00" + encode_structure(0, assignment),
    )  # fmt: skip
    asked = {
        "describe_groups": classic.DescribedGroup(
            group_id="g", group_state="Stable", protocol_type="consumer", protocol_data="range", members=[member]
        )
    }
    if knows_both:
        asked["consumer_group_describe"] = consumer.DescribedGroup(error_code=ErrorCode.GROUP_ID_NOT_FOUND)
    group = describe(Told(**asked))
    assert (group.protocol, group.state, group.epoch, group.assignor) == ("classic", "stable", None, "range")
    (found,) = group.members
    assert (found.topics, found.assigned, found.target, found.epoch) == (["s", "t"], {"t": [1, 2]}, None, None)


@pytest.mark.parametrize("protocol_type", ["consumer", "connect"])
def test_bytes_that_no_consumer_wrote_say_nothing(protocol_type: str) -> None:
    member = classic.DescribedGroupMember(member_id="a", member_metadata=b"\xff" * 9, member_assignment=b"")
    told = classic.DescribedGroup(group_state="Stable", protocol_type=protocol_type, members=[member])
    (found,) = describe(Told(describe_groups=told)).members
    assert (found.topics, found.assigned) == ((), {})


def test_a_group_that_is_not_there_is_dead() -> None:
    group = describe(
        Told(
            consumer_group_describe=consumer.DescribedGroup(error_code=ErrorCode.GROUP_ID_NOT_FOUND),
            describe_groups=classic.DescribedGroup(error_code=ErrorCode.GROUP_ID_NOT_FOUND, group_state="Dead"),
        )
    )
    assert group.is_dead
    assert group.members == []


@pytest.mark.parametrize("kind", ["consumer_group_describe", "describe_groups"])
def test_a_refusal_is_told(kind: str) -> None:
    group = {"consumer_group_describe": consumer, "describe_groups": classic}[kind].DescribedGroup  # type: ignore[attr-defined]
    told = Told(**{kind: group(error_code=ErrorCode.GROUP_AUTHORIZATION_FAILED)})
    with pytest.raises(CommandError, match="the broker does not describe group 'g': GROUP_AUTHORIZATION_FAILED"):
        describe(told)
