"""The consumer protocol (KIP-848) by the Java client, and what Kafka's own tools show and do of such groups.

All stories of ConsumerProtocol.java run in one JVM; each test looks at what its story saw."""

from __future__ import annotations

import re
import subprocess

import pytest

from benchmarks.peers import kafka
from tests.clients.conftest import Served
from tests.clients.matrix import HERE, require_java
from tests.clients.members import company, produce
from tests.clients.test_java_tools import Run, run
from tools.clients import require

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _there() -> None:
    require_java()


@pytest.fixture(scope="module")
def seen(process: Served) -> dict[str, list[str]]:
    """Story -> what it saw, line by line."""
    require_java()
    process.complaints()
    done = subprocess.run(
        ["java", *kafka.JVM_TOOL, "-cp", str(require("java")), str(HERE / "ConsumerProtocol.java"), process.bootstrap, "kip848"],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert process.complaints() == []
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        story, _, what = line.partition("\t")
        found.setdefault(story, []).append(what)
    assert not [one for lines in found.values() for one in lines if one.startswith("failed ")], done.stderr
    return found


ONCE = "[] [1]"  # no partition had two owners, every record was read once


def test_members_share_a_topic(seen: dict[str, list[str]]) -> None:
    assert seen["shares"] == [ONCE, "[20, 20, 20, 20, 20, 20]"]


def test_members_come_and_go(seen: dict[str, list[str]]) -> None:
    assert seen["changes"] == [ONCE]


def test_a_static_member_comes_back_and_is_not_replaced_while_it_lives(seen: dict[str, list[str]]) -> None:
    assert seen["instances"] == ["true true", "UnreleasedInstanceIdException", "[]"]


def test_an_expression_finds_topics_that_come_later(seen: dict[str, list[str]]) -> None:
    assert seen["expression"] == [ONCE, "InvalidRegularExpression"]


def test_a_new_member_goes_on_where_the_group_was(seen: dict[str, list[str]]) -> None:
    assert seen["resumed"] == [f"{ONCE} 18", f"{ONCE} 18"]


def test_a_live_group_goes_to_the_consumer_protocol_and_back(seen: dict[str, list[str]]) -> None:
    assert seen["migration"] == ["Consumer", "Classic", "[]"]


def test_tools_on_a_group_that_is_alive(served: Served, topic_of_four: str) -> None:
    """ConsumerGroupCommand and GroupsCommand, ConfigCommand for groups."""
    produce(served.bootstrap, topic_of_four, 4, 10)
    with company(served.bootstrap, topic_of_four, topic_of_four) as group:
        group.join(group_instance_id="billing")
        group.ledger.wait_for_records(40)
        said = run(served, topic_of_four, [
            Run("ConsumerGroupCommand", "--bootstrap-server {b} --list --type consumer"),
            Run("ConsumerGroupCommand", "--bootstrap-server {b} --list --type classic"),
            Run("ConsumerGroupCommand", "--bootstrap-server {b} --list --state stable"),
            Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t}"),
            Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t} --members --verbose"),
            Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t} --state --verbose"),
            Run("GroupsCommand", "--bootstrap-server {b} --list --group-type consumer"),
            Run("ConfigCommand", "--bootstrap-server {b} --alter --entity-type groups --entity-name {t}"
                " --add-config consumer.session.timeout.ms=50000,consumer.heartbeat.interval.ms=300"),
            Run("ConfigCommand", "--bootstrap-server {b} --describe --entity-type groups --entity-name {t}"),
            Run("ConfigCommand", "--bootstrap-server {b} --alter --entity-type groups --entity-name {t}"
                " --delete-config consumer.heartbeat.interval.ms"),
            Run("ConfigCommand", "--bootstrap-server {b} --describe --entity-type groups --entity-name {t}"),
        ])  # fmt: skip
    assert topic_of_four in said[0].split()
    assert topic_of_four not in said[1].split()
    assert re.search(rf"^{topic_of_four} +Stable", said[2], re.MULTILINE), said[2]
    rows = re.findall(
        rf"^{topic_of_four} +{topic_of_four} +(\d) +\d+ +10 +\d+ +(\S+) +/\S+ +consumer-1", said[3], re.MULTILINE
    )
    assert [partition for partition, _ in rows] == ["0", "1", "2", "3"], said[3]
    (member,) = {member for _, member in rows}
    (line,) = [one for one in said[4].splitlines() if member in one]
    assert line.split()[:2] == [topic_of_four, member]
    assert "billing" in line.split()
    assert f"{topic_of_four}:0,1,2,3" in line.split()
    assert re.search(r"Stable +\d+ +\d+ +1\s*$|Stable +1\s*$", said[5], re.MULTILINE), said[5]
    assert re.search(rf"^{topic_of_four} +Consumer +consumer", said[6], re.MULTILINE)
    assert "consumer.session.timeout.ms=50000" in said[8]
    assert "consumer.heartbeat.interval.ms=300" in said[8]
    assert "consumer.session.timeout.ms=50000" in said[10]
    assert "consumer.heartbeat.interval.ms=300" not in said[10]


def test_tools_that_change_a_group(served: Served, topic_of_four: str) -> None:
    """Refused while it is alive; reset, deletion of offsets and of the group when it is empty."""
    produce(served.bootstrap, topic_of_four, 4, 10)
    reset = "--bootstrap-server {b} --reset-offsets --group {t} --topic {t}"
    with company(served.bootstrap, topic_of_four, topic_of_four) as group:
        group.join()
        group.ledger.wait_for_records(40)
        refused = run(served, topic_of_four, [
            Run("ConsumerGroupCommand", "--bootstrap-server {b} --delete-offsets --group {t} --topic {t}"),
        ])  # fmt: skip
    assert "GroupSubscribedToTopicException" in refused[0] or "subscribed" in refused[0], refused[0]
    said = run(served, topic_of_four, [
        Run("ConsumerGroupCommand", f"{reset} --to-earliest --dry-run"),
        Run("ConsumerGroupCommand", f"{reset} --to-offset 4 --execute"),
        Run("ConsumerGroupCommand", f"{reset}:1,2 --shift-by -1 --execute"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t} --offsets"),
        Run("ConsumerGroupCommand", f"{reset} --by-duration PT1H --execute"),
        Run("ConsumerGroupCommand", f"{reset} --to-datetime 2099-01-01T00:00:00.000 --execute"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --delete-offsets --group {t} --topic {t}:0"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t} --offsets"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --delete --group {t}"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --list"),
    ])  # fmt: skip

    def plan(text: str) -> dict[str, str]:
        return dict(re.findall(rf"^{topic_of_four} +{topic_of_four} +(\d) +(\d+)", text, re.MULTILINE))

    assert plan(said[0]) == dict.fromkeys("0123", "0")
    assert plan(said[1]) == dict.fromkeys("0123", "4")
    assert plan(said[2]) == dict.fromkeys("12", "3")
    assert plan(said[3]) == {"0": "4", "1": "3", "2": "3", "3": "4"}
    assert plan(said[4]) == dict.fromkeys("0123", "0")
    assert plan(said[5]) == dict.fromkeys("0123", "10")
    assert said[6].count("Successful") == 1
    assert plan(said[7]) == dict.fromkeys("123", "10")
    assert "was successful" in said[8]
    assert topic_of_four not in said[9].split()
