"""Setting groups elsewhere: the plan, what is done, and everything that is refused."""

from __future__ import annotations

import json

import pytest

from riverlog.cli.committed import Committed
from riverlog.cli.errors import CommandError
from riverlog.cli.places import Ends
from riverlog.cli.resets import shifted, within
from riverlog.library import Broker
from tests.unit.cli.conftest import Run, member_of


def committed(run: Run, group: str) -> list[int | None]:
    (described,) = json.loads(run("group", "describe", group, "--json").out)
    return [one["committed"] for one in described["partitions"]]


def test_reset_tells_its_plan_and_does_it_when_told(run: Run, group: str) -> None:
    done = run("group", "reset", group, "--to", "earliest")
    assert "nothing was changed: --execute does it" in done.out
    assert committed(run, group) == [2]
    assert json.loads(run("group", "reset", group, "--to", "-1", "--execute", "--json").out) == {
        "group": group, "executed": True, "members": [],
        "plan": [{"topic": group, "partition": 0, "committed": 2, "to": 4}],
    }  # fmt: skip
    assert committed(run, group) == [4]
    assert run("consume", group, "-g", group, "-e").out == "e\n"


@pytest.mark.parametrize(("to", "offset"), [("earliest", 0), ("latest", 5), ("3", 3), ("-99", 0), ("1h", 0), ("@0", 0)])
def test_reset_to_every_kind_of_place(run: Run, group: str, to: str, offset: int) -> None:
    assert run("group", "reset", group, "--to", to, "--execute").status == 0
    assert committed(run, group) == [offset]


@pytest.mark.parametrize(("by", "offset"), [("2", 4), ("+1", 3), ("-2", 0), ("0", 2)])
def test_reset_by_records(run: Run, group: str, by: str, offset: int) -> None:
    assert run("group", "reset", group, "--by", by, "--execute").status == 0
    assert committed(run, group) == [offset]


@pytest.mark.parametrize(
    ("tokens", "offset", "clamped"), [(("--to", "99"), 99, 5), (("--by", "-3"), -1, 0), (("--by", "4"), 6, 5)]
)
def test_an_offset_out_of_range_is_refused_and_clamped_when_told(
    run: Run, group: str, tokens: tuple[str, str], offset: int, clamped: int
) -> None:
    done = run("group", "reset", group, *tokens, "--execute")
    assert done.status == 1
    assert done.err == (
        f"riverlog: offset {offset} is not in {group} partition 0: {group} partition 0 has 0 to 5; "
        "--clamp takes the nearest\n"
    )
    assert committed(run, group) == [2]
    assert run("group", "reset", group, *tokens, "--clamp", "--execute").status == 0
    assert committed(run, group) == [clamped]


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        (("--to", "somewhere"), 2, "--to: 'somewhere' is no place in a log"),
        (("--by", "much"), 2, "--by: 'much' is no number of records"),
        (("--by", "9223372036854775808"), 2, "is no number of records"),
        ((), 2, "say where: --to PLACE, or --by RECORDS"),
        (("--to", "1", "--by", "1"), 2, "say where: --to PLACE, or --by RECORDS"),
        (("--to", "1", "-p", "0"), 2, "-p goes with one topic: give -t TOPIC once"),
        (("--to", "1", "-t", "{t}", "-p", "-1"), 2, "from 0 on"),
        (("--to", "1", "-t", "{t}", "-p", "3"), 1, "topic '{t}' has no partition 3: it has 0 to 0"),
        (("--to", "1", "-t", "nowhere"), 1, "there is no topic 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, group: str, tokens: tuple[str, ...], status: int, said: str) -> None:
    done = run("group", "reset", group, *(one.format(t=group) for one in tokens), "--execute")
    assert done.status == status
    assert said.format(t=group) in done.err
    assert committed(run, group) == [2]


def test_one_partition_of_many(run: Run, group: str) -> None:
    wide = f"{group}-wide"
    run("topic", "create", wide, "-p", "3")
    run("group", "reset", group, "--to", "earliest", "-t", wide, "-p", "2", "-p", "0", "--execute")
    (described,) = json.loads(run("group", "describe", group, "--json").out)
    found = {(one["topic"], one["partition"]): one["committed"] for one in described["partitions"]}
    assert found == {(group, 0): 2, (wide, 0): 0, (wide, 2): 0}


def test_a_new_group_can_be_set_somewhere(run: Run, group: str) -> None:
    new = f"{group}-new"
    said = run("group", "reset", new, "--to", "latest").err
    assert f"there is no group '{new}'" in said
    assert "-t TOPIC says where a new one shall begin" in said
    assert "nothing there to go on from" in run("group", "reset", new, "--by", "1", "-t", group).err
    assert run("group", "reset", new, "--to", "3", "-t", group, "--execute").status == 0
    assert run("consume", group, "-g", new, "-e").out == "d\ne\n"


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_with_members_is_not_reset(run: Run, group: str, riverlog_broker: Broker, protocol: str) -> None:
    with member_of(riverlog_broker, group, **{"client.id": "billing", "group.protocol": protocol}):
        (described,) = json.loads(run("group", "describe", group, "--json").out)
        name = described["members"][0]["member"]
        done = run("group", "reset", group, "--to", "earliest", "--execute")
        reason = f"group '{group}' has members, whose commits would win: stop {name} (billing at 127.0.0.1) first"
        assert done.status == 1
        assert reason in done.err
        plan = run("group", "reset", group, "--to", "earliest")
        assert plan.status == 0
        assert f"nothing was changed, and --execute would refuse: {reason}" in plan.out
        assert json.loads(run("group", "reset", group, "--to", "earliest", "--json").out)["members"] == [name]
        assert committed(run, group) == [2]
    assert run("group", "reset", group, "--to", "earliest", "--execute").status == 0
    assert committed(run, group) == [0]


def test_a_shift_leaves_partitions_without_an_offset_alone() -> None:
    ends = {("t", 0): Ends(0, 9), ("t", 1): Ends(0, 9)}
    assert shifted("g", -1, {("t", 1): Committed(4, ""), ("u", 0): Committed(1, "")}, ends) == {("t", 1): 3}
    with pytest.raises(CommandError, match="has committed nothing there"):
        shifted("g", 1, {("u", 0): Committed(1, "")}, ends)


def test_at_most_five_partitions_are_named() -> None:
    ends = {("t", at): Ends(10, 20) for at in range(7)}
    with pytest.raises(CommandError) as refused:
        within(dict.fromkeys(ends, 9), ends, clamp=False)
    assert refused.value.message.count(" has 10 to 20") == 5
    assert "; and 2 more; --clamp" in refused.value.message
    assert within(dict.fromkeys(ends, 9), ends, clamp=True) == dict.fromkeys(ends, 10)
