"""`riverlog topic …` against a broker."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.conftest import Run


def test_a_topic_lives_from_create_to_delete(run: Run) -> None:
    assert run("topic", "create", "life", "-p", "2", "-r", "1", "-c", "retention.ms=-1").out == "created topic life\n"
    assert "life" in run("topic", "list").out
    (described,) = json.loads(run("topic", "describe", "life", "--json").out)
    assert [one["partition"] for one in described["partitions"]] == [0, 1]
    assert {"name": "retention.ms", "value": "-1", "source": "topic"} in described["configs"]
    assert run("topic", "alter", "life", "-p", "3", "-c", "retention.bytes=100", "--unset", "retention.ms").status == 0
    (described,) = json.loads(run("topic", "describe", "life", "--json").out)
    assert len(described["partitions"]) == 3
    assert [(one["name"], one["value"]) for one in described["configs"]] == [("retention.bytes", "100")]
    assert run("topic", "delete", "life").out == "deleted topic life\n"
    assert "life" not in [one["topic"] for one in json.loads(run("topic", "list", "--json").out)]


def test_the_table_for_people_has_ends_and_configurations(run: Run, riverlog_topic: str) -> None:
    run("produce", riverlog_topic, stdin=b"a\nb\n")
    run("topic", "alter", riverlog_topic, "-c", "retention.ms=-1")
    out = run("topic", "describe", riverlog_topic).out
    assert out.splitlines()[:3] == [
        f"topic {riverlog_topic}",
        "PARTITION  LEADER  FIRST  END  RECORDS",
        "        0       1      0    2        2",
    ]
    assert "retention.ms" in out


def test_internal_topics_are_listed_when_asked_for(run: Run) -> None:
    run("topic", "create", "__hidden")
    assert "__hidden" not in run("topic", "list").out
    assert "__hidden" in run("topic", "list", "--internal").out


def test_of_several_topics_each_is_told(run: Run) -> None:
    run("topic", "create", "there", "there-too")
    done = run("topic", "delete", "there", "not-there", "there-too")
    assert done.status == 1
    assert done.out.splitlines() == ["deleted topic there", "deleted topic there-too"]
    assert done.err.startswith("riverlog: not-there: ")
    assert "`riverlog topic list` shows what there is" in done.err


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        (("topic", "create"), 2, "name at least one topic"),
        (("topic", "create", "bad", "-c", "retention.ms"), 2, "give -c key=value"),
        (("topic", "create", "bad", "-p", "0"), 2, "at least one partition"),
        (("topic", "create", "bad", "-p", "many"), 2, "many"),
        (("topic", "create", "bad", "-p", "200000"), 2, "1..100000"),
        (("topic", "create", "bad", "-r", "0"), 2, "at least one replica"),
        (("topic", "create", "bad", "-r", "20000"), 2, "the client refuses"),
        (("topic", "create", "bad", "-c", "retention.mss=1"), 1, "retention.mss"),
        (("topic", "create", "bad name"), 1, "bad name"),
        (("topic", "describe", "none"), 1, "`riverlog topic create none` makes it"),
        (("topic", "alter", "none"), 2, "nothing to alter"),
        (("topic", "alter", "none", "-p", "2"), 1, "there is no topic 'none'"),
        (("topic", "alter", "none", "-c", "a=1", "--unset", "a"), 2, "both set and unset"),
        (("topic", "creat", "x"), 2, "(riverlog topic --help says more)"),
        (("topics",), 2, "(riverlog --help says more)"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(run: Run, tokens: tuple[str, ...], status: int, said: str) -> None:
    done = run(*tokens)
    assert done.status == status
    assert said in done.err
    assert done.err.startswith("riverlog: ")
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_a_topic_is_not_made_twice(run: Run, riverlog_topic: str) -> None:
    done = run("topic", "create", riverlog_topic)
    assert done.status == 1
    assert "already exists" in done.err
