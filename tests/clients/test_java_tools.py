"""Kafka's own command-line tools (4.x, the Java client) against a riverlog process.

All of them run in few JVMs (Tools.java), because each costs a second to start. The stories are told in the tools' output."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from benchmarks.peers import kafka
from tests.clients.conftest import Served
from tests.clients.matrix import HERE, require_java, seconds_max

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(180)]

MORE_TOOLS: Final = {
    "ClusterTool": "org.apache.kafka.tools.ClusterTool",
    "GroupsCommand": "org.apache.kafka.tools.GroupsCommand",
    "LogDirsCommand": "org.apache.kafka.tools.LogDirsCommand",
    "ClientMetricsCommand": "org.apache.kafka.tools.ClientMetricsCommand",
    "FeatureCommand": "org.apache.kafka.tools.FeatureCommand",
    "LeaderElectionCommand": "org.apache.kafka.tools.LeaderElectionCommand",
    "ReassignPartitionsCommand": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "TransactionsCommand": "org.apache.kafka.tools.TransactionsCommand",
    "EndToEndLatency": "org.apache.kafka.tools.EndToEndLatency",
}
# What tools say on stderr though all is well.
CHATTER: Final = re.compile(
    r"deprecated|KIP-848|^Processed a total of|has no active members|^WARNING: Positional|^SLF4J|^$", re.IGNORECASE
)


class Run(NamedTuple):
    """One run of a tool. `{b}` in the arguments is the broker's address, `{t}` the name of the test's topic."""

    tool: str
    line: str
    given: bytes = b""


@pytest.fixture(autouse=True)
def _there() -> None:
    require_java()


def run(served: Served, topic: str, runs: Sequence[Run]) -> list[str]:
    """What each printed; none of them may fail or complain."""
    lines = []
    for one in runs:
        name = MORE_TOOLS.get(one.tool) or kafka.TOOLS[one.tool]
        arguments = [word.format(b=served.bootstrap, t=topic) for word in one.line.split()]
        columns = [name.encode(), one.given, *(word.encode() for word in arguments)]
        lines.append("\t".join(base64.b64encode(column).decode() for column in columns))
    done = subprocess.run(
        [*kafka._java(kafka.version_default, kafka.JVM_TOOL, level="warn"), str(HERE / "Tools.java")],
        input="\n".join(lines), capture_output=True, text=True, timeout=2 * seconds_max,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = []
    for one, line in zip(runs, done.stdout.splitlines(), strict=True):
        status, out, err = line.split("\t")
        told, complained = base64.b64decode(out).decode(), base64.b64decode(err).decode()
        assert status == "0", (one, told, complained)
        assert [text for text in complained.splitlines() if not CHATTER.search(text)] == [], one
        printed.append(told)
    return printed


def test_topics_and_their_configs(served: Served, name: str) -> None:
    """TopicCommand and ConfigCommand."""
    said = run(served, name, [
        Run("TopicCommand", "--bootstrap-server {b} --create --topic {t} --partitions 3 --replication-factor 3"
            " --config retention.ms=-1"),
        Run("TopicCommand", "--bootstrap-server {b} --alter --topic {t} --partitions 4"),
        Run("TopicCommand", "--bootstrap-server {b} --describe --topic {t}"),
        Run("TopicCommand", "--bootstrap-server {b} --list"),
        Run("ConfigCommand", "--bootstrap-server {b} --alter --entity-type topics --entity-name {t}"
            " --add-config segment.bytes=1048576,cleanup.policy=[compact,delete]"),
        Run("ConfigCommand", "--bootstrap-server {b} --alter --entity-type topics --entity-name {t}"
            " --delete-config retention.ms"),
        Run("ConfigCommand", "--bootstrap-server {b} --describe --entity-type topics --entity-name {t}"),
        Run("ConfigCommand", "--bootstrap-server {b} --describe --entity-type topics --entity-name {t} --all"),
        Run("ConfigCommand", "--bootstrap-server {b} --describe --entity-type brokers --entity-name 1 --all"),
        Run("TopicCommand", "--bootstrap-server {b} --delete --topic {t}"),
        Run("TopicCommand", "--bootstrap-server {b} --list"),
    ])  # fmt: skip
    assert f"Created topic {name}." in said[0]
    assert "PartitionCount: 4\tReplicationFactor: 1\tConfigs: retention.ms=-1" in said[2]
    assert len(re.findall(r"Partition: \d\tLeader: 1\tReplicas: 1\tIsr: 1\t", said[2])) == 4
    assert name in said[3].split()
    assert "cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:" in said[6]
    assert "segment.bytes=1048576 " in said[6]
    assert "retention.ms" not in said[6]
    assert "  retention.ms=604800000 " in said[7]
    assert f"advertised.listeners=PLAINTEXT://{served.bootstrap} " in said[8]
    assert "group.min.session.timeout.ms=500 sensitive=false synonyms={STATIC_BROKER_CONFIG:" in said[8]
    assert name not in said[10].split()


def test_records_in_and_out_groups_and_offsets(served: Served, topic_of_four: str, tmp_path: Path) -> None:
    """ConsoleProducer, ConsoleConsumer, GetOffsetShell, ConsumerGroupCommand, GroupsCommand, DeleteRecordsCommand."""
    deletion = tmp_path / "delete.json"
    deletion.write_text(
        json.dumps({"partitions": [{"topic": topic_of_four, "partition": 0, "offset": -1}], "version": 1})
    )
    lines = b"".join(b"h:%d\tkey %d\tvalue %d\n" % (at, at, at) for at in range(100))
    consumer = (
        "--bootstrap-server {b} --topic {t} --from-beginning --max-messages 100 --group {t}-g"
        " --formatter-property print.key=true --formatter-property print.headers=true"
        " --formatter-property print.partition=true --formatter-property print.offset=true"
    )
    said = run(served, topic_of_four, [
        Run("ConsoleProducer", "--bootstrap-server {b} --topic {t} --compression-codec zstd"
            " --reader-property parse.key=true --reader-property parse.headers=true", lines),
        Run("ConsoleConsumer", consumer),
        Run("GetOffsetShell", "--bootstrap-server {b} --topic {t}"),
        Run("GetOffsetShell", "--bootstrap-server {b} --topic {t} --time earliest"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --list --state"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t}-g"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t}-g --state"),
        Run("GroupsCommand", "--bootstrap-server {b} --list"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --reset-offsets --group {t}-g --topic {t}"
            " --to-earliest --execute"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --describe --group {t}-g --offsets"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --delete-offsets --group {t}-g --topic {t}"),
        Run("ConsumerGroupCommand", "--bootstrap-server {b} --delete --group {t}-g"),
        Run("DeleteRecordsCommand", f"--bootstrap-server {{b}} --offset-json-file {deletion}"),
        Run("GetOffsetShell", "--bootstrap-server {b} --topic {t} --time earliest"),
    ])  # fmt: skip
    read = re.findall(r"^Partition:(\d)\tOffset:(\d+)\th:(\d+)\tkey (\d+)\tvalue (\d+)$", said[1], re.MULTILINE)
    assert sorted(int(one[2]) for one in read) == list(range(100))
    assert all(one[2] == one[3] == one[4] for one in read)
    ends = dict(re.findall(rf"^{topic_of_four}:(\d):(\d+)$", said[2], re.MULTILINE))
    assert sum(map(int, ends.values())) == 100
    assert said[3].split() == [f"{topic_of_four}:{at}:0" for at in range(4)]
    assert re.search(rf"^{topic_of_four}-g +Empty", said[4], re.MULTILINE)
    rows = re.findall(rf"^{topic_of_four}-g +{topic_of_four} +(\d) +(\d+) +(\d+) +0 ", said[5], re.MULTILINE)
    assert {partition: (at, end) for partition, at, end in rows} == {one: (end, end) for one, end in ends.items()}
    assert re.search(rf"{served.bootstrap}  \(1\) .* Empty +0", said[6])
    assert re.search(rf"^{topic_of_four}-g +Classic +consumer", said[7], re.MULTILINE)
    assert len(re.findall(rf"^{topic_of_four}-g +{topic_of_four} +\d +0 *$", said[8], re.MULTILINE)) == 4
    assert said[10].count("Successful") == 4
    assert "was successful" in said[11]
    assert f"partition: {topic_of_four}-0\tlow_watermark: {ends['0']}" in said[12]
    assert f"{topic_of_four}:0:{ends['0']}" in said[13].split()


def test_performance_cluster_and_broker(served: Served, topic: str) -> None:
    """ProducerPerformance, ConsumerPerformance, EndToEndLatency, and what tells about the broker."""
    said = run(served, topic, [
        Run("ProducerPerformance", "--bootstrap-server {b} --topic {t} --num-records 20000 --record-size 512"
            " --throughput -1 --command-property acks=all"),
        Run("ConsumerPerformance", "--bootstrap-server {b} --topic {t} --num-records 20000 --timeout 20000"),
        Run("EndToEndLatency", "--bootstrap-server {b} --topic {t} --num-records 100 --producer-acks all"
            " --record-size 100"),
        Run("BrokerApiVersionsCommand", "--bootstrap-server {b}"),
        Run("ClusterTool", "cluster-id --bootstrap-server {b}"),
        Run("ClusterTool", "list-endpoints --bootstrap-server {b}"),
        Run("LogDirsCommand", "--bootstrap-server {b} --describe --topic-list {t}"),
        Run("FeatureCommand", "--bootstrap-server {b} describe"),
        Run("ClientMetricsCommand", "--bootstrap-server {b} --list"),
        Run("LeaderElectionCommand", "--bootstrap-server {b} --election-type preferred --topic {t} --partition 0"),
        Run("ReassignPartitionsCommand", "--bootstrap-server {b} --list"),
    ])  # fmt: skip
    assert "20000 records sent" in said[0]
    assert re.search(r", 9\.7656, [\d.]+, 20000, ", said[1]), said[1]
    assert "Avg latency" in said[2]
    assert "Produce(0): 0 to 13 [usable: 13]" in said[3]
    assert "Fetch(1): 4 to 18 [usable: 18]" in said[3]
    assert re.fullmatch(r"Cluster ID: \S{22}\n", said[4])
    assert re.search(r"^1 +127\.0\.0\.1 +\d+ +null +unfenced +broker", said[5], re.MULTILINE)
    directories = json.loads(said[6].splitlines()[-1])["brokers"][0]["logDirs"]
    assert [one["partition"] for each in directories for one in each["partitions"]] == [f"{topic}-0"]
    assert directories[0]["partitions"][0]["size"] > 20_000 * 512
    assert f"Valid replica already elected for partitions {topic}-0" in said[9]
    assert "No partition reassignments found." in said[10]


def test_directories_leaders_moves_and_producers(served: Served, topic: str, tmp_path: Path) -> None:
    """LogDirsCommand, LeaderElectionCommand, ReassignPartitionsCommand, TransactionsCommand: what one node can say."""
    moves = tmp_path / "moves.json"
    partitions = [{"topic": topic, "partition": 0, "replicas": [1], "log_dirs": ["any"]}]
    moves.write_text(json.dumps({"version": 1, "partitions": partitions}))
    election = tmp_path / "election.json"
    election.write_text(json.dumps({"partitions": [{"topic": topic, "partition": 0}]}))
    move = f"--bootstrap-server {{b}} --reassignment-json-file {moves}"
    said = run(served, topic, [
        Run("ConsoleProducer", "--bootstrap-server {b} --topic {t} --sync", b"one\ntwo\nthree\n"),
        Run("TransactionsCommand", "--bootstrap-server {b} describe-producers --topic {t} --partition 0"),
        Run("LogDirsCommand", "--bootstrap-server {b} --describe"),
        Run("LeaderElectionCommand", f"--bootstrap-server {{b}} --election-type unclean --path-to-json-file {election}"),
        Run("LeaderElectionCommand", "--bootstrap-server {b} --election-type preferred --all-topic-partitions"),
        Run("ReassignPartitionsCommand", f"{move} --execute"),
        Run("ReassignPartitionsCommand", f"{move} --verify --preserve-throttles"),
        Run("ReassignPartitionsCommand", "--bootstrap-server {b} --list"),
    ])  # fmt: skip
    header, *rows = said[1].splitlines()
    assert header.split("\t")[0].strip() == "ProducerId"
    assert len(rows) == 1
    assert re.fullmatch(r"\d+\s+0\s+-1\s+2\s+\d{13}\s+None\s*", rows[0]), rows
    (directory,) = json.loads(said[2].splitlines()[-1])["brokers"][0]["logDirs"]
    assert directory["error"] is None
    sizes = {one["partition"]: (one["size"], one["offsetLag"], one["isFuture"]) for one in directory["partitions"]}
    assert sizes[f"{topic}-0"][0] > 0
    assert sizes[f"{topic}-0"][1:] == (0, False)
    assert f"Valid replica already elected for partitions {topic}-0" in said[3]
    assert f"Successfully started partition reassignment for {topic}-0" in said[5]
    assert f"Reassignment of partition {topic}-0 is completed." in said[6]
    assert "No partition reassignments found." in said[7]
