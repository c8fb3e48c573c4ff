"""What golden scripts about transactions print."""

from __future__ import annotations

import asyncio

from riverlog.testing.transaction_scripts import TransactionScript


def lines(script: TransactionScript, command: str) -> list[str]:
    return asyncio.run(script.execute(command.split()))


def test_a_step_is_told_in_the_order_of_its_effects() -> None:
    script = TransactionScript()
    assert lines(script, "init a") == ["commit state: Empty 1000/0 number=0", "init a: 1000/0"]
    assert lines(script, "add a p0 gx") == ["commit state: Ongoing 1000/0 number=1 first=p0,gx", "add a: in 1: ok ok"]
    assert lines(script, "end a commit as b") == ["make durable of 1: p0"]
    assert lines(script, "settle")[1:] == ["end a: 1000/1", "write markers: commit 1 as 1000/1 into p0 gx"]
    assert lines(script, "markers gx") == []
    assert lines(script, "markers p0") == ["later state: CompleteCommit 1000/1 number=1 last=1000/0"]
    assert lines(script, "idle") == ["durable: state"]
    assert lines(script, "end b commit") == ["end b: INVALID_TXN_STATE"]
    assert lines(script, "lookup 1") == ["transaction 1 committed"]


def test_answers_that_a_load_lost_are_not_told() -> None:
    script = TransactionScript()
    lines(script, "init a")
    lines(script, "add a p0")
    lines(script, "end a commit")
    assert lines(script, "load") == ["Ongoing 1000/0 may write to 1"]
    assert lines(script, "rows") == ["state: Ongoing 1000/0 number=1 first=p0"]
