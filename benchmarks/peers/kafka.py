"""Apache Kafka from Maven: a classpath, one broker in KRaft combined mode, and Kafka's command-line tools.

Settings are Kafka's own where they decide speed (no fsync, heap and collector as its start script sets them).
`python -m benchmarks.peers.kafka` fetches it. Not for production, and never reachable from outside: 127.0.0.1 only."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.peers import cache as store
from benchmarks.peers import process, wire

version_default: Final = "4.3.1"  # the newest whose artifacts are all there; tested with these benchmarks
log4j_version: Final = "2.25.4"  # the log4j that Kafka 4.3 itself brings; the binding must match
start_seconds_max: Final = 60.0

ARTIFACTS: Final = ("kafka_2.13", "kafka-tools", "kafka-server-common", "kafka-clients")

# Kafka's kafka-run-class.sh and kafka-server-start.sh.
JVM_BROKER: Final = (
    "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true",
)  # fmt: skip
JVM_TOOL: Final = ("-Xmx256M", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.awt.headless=true")

TOOLS: Final = {
    "StorageTool": "kafka.tools.StorageTool",
    "DumpLogSegments": "org.apache.kafka.tools.DumpLogSegments",
    "TopicCommand": "org.apache.kafka.tools.TopicCommand",
    "ConsumerGroupCommand": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "ConfigCommand": "kafka.admin.ConfigCommand",
    "GetOffsetShell": "org.apache.kafka.tools.GetOffsetShell",
    "ProducerPerformance": "org.apache.kafka.tools.ProducerPerformance",
    "ConsumerPerformance": "org.apache.kafka.tools.ConsumerPerformance",
    "ConsoleProducer": "org.apache.kafka.tools.ConsoleProducer",
    "ConsoleConsumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "DeleteRecordsCommand": "org.apache.kafka.tools.DeleteRecordsCommand",
    "BrokerApiVersionsCommand": "org.apache.kafka.tools.BrokerApiVersionsCommand",
}

LOG4J: Final = """\
rootLogger.level = {level}
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d %p %m (%c)%n%throwable
"""


def available() -> bool:
    """Java and Maven are there, so Kafka can be fetched (or was fetched before) and run."""
    return shutil.which("java") is not None and (shutil.which("mvn") is not None or is_fetched())


def is_fetched(version: str = version_default) -> bool:
    """Kafka's jars are in the cache, so nothing asks the network."""
    return _entry(version).exists()


def missing() -> str | None:
    """What keeps Kafka from running here, by name, or None."""
    if shutil.which("java") is None:
        return "java is missing: install a Java runtime of 17 or newer"
    return None if available() else "Maven is missing: install `mvn`"


def fetch(version: str = version_default) -> Path:
    """The directory of Kafka's jars, fetched through Maven when they are missing; RuntimeError when that fails."""
    return store.cached(f"kafka-{version}", lambda building: _fetch(building, version)) / "libs"


def classpath(version: str = version_default) -> str:
    """The Java classpath of broker, tools and client (a directory's wildcard), fetched when it is missing."""
    return str(fetch(version) / "*")


def newest_version() -> str:
    """The newest 4.x for which Maven has every artifact that we need. Asks the network."""
    repository = store.run_with_retries(
        ["mvn", "-q", "-B", "help:evaluate", "-Dexpression=settings.localRepository", "-DforceStdout"]
    )
    building = store.cache_directory() / "newest"
    building.mkdir(exist_ok=True)
    # A range makes Maven read the list of versions; that it may fail to resolve a set of unequal ones is no matter.
    (building / "pom.xml").write_text(pom("[4.0,5.0)"))
    subprocess.run(["mvn", "-q", "-B", "-U", "dependency:resolve"], cwd=building, capture_output=True)
    root = Path(re.sub(r"\x1b\[[0-9;]*m", "", repository).strip()) / "org/apache/kafka"
    listed = [_versions(root / artifact) for artifact in ARTIFACTS]
    common = set.intersection(*listed)
    if not common:
        raise RuntimeError("Maven lists no version of Kafka 4 that has all artifacts")
    return max(common, key=lambda version: tuple(map(int, version.split("."))))


def run_tool(
    name: str, args: Sequence[str], *, version: str = version_default, timeout_seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run one of Kafka's tools, by its short name in TOOLS or by its class; what it said, also when it failed."""
    return subprocess.run(
        [*_java(version, JVM_TOOL, level="error"), TOOLS.get(name, name), *args],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_seconds,
    )  # fmt: skip


class Kafka:
    """One Kafka broker and controller over `directory`, a new cluster where the directory is empty.

    `settings` are lines of server.properties that overrule ours."""

    name = "kafka"

    def __init__(
        self, directory: Path, *, settings: Mapping[str, str] | None = None, version: str = version_default
    ) -> None:
        self.directory = directory
        self.settings = dict(settings or {})
        self.version = version
        self.bootstrap = ""
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data_directory(self) -> Path:
        """Where the partitions' directories (`<topic>-<partition>`) with their segments lie."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the process said."""
        return self.directory / "kafka.log"

    def start(self) -> Self:
        """Format the directory when it is new, start the broker and return when it answers ApiVersions."""
        assert self._process is None, "it runs already"
        self.prepare()
        self.spawn()
        assert self._process is not None
        try:
            process.wait_until(self.answers, self._process, seconds_max=start_seconds_max, log=self.log)
        except BaseException:
            self.kill()
            raise
        return self

    def prepare(self) -> None:
        """Choose ports, write server.properties and format the storage: all that is not the start itself."""
        self.directory.mkdir(parents=True, exist_ok=True)
        port, controller_port = process.free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        properties = self.directory / "server.properties"
        properties.write_text(server_properties(self.data_directory, port, controller_port, self.settings))
        if not (self.data_directory / "meta.properties").exists():
            cluster_id = base64.urlsafe_b64encode(b"\x01" + os.urandom(15)).decode().rstrip("=")
            done = run_tool("StorageTool", ["format", "-t", cluster_id, "-c", str(properties)], version=self.version)
            if done.returncode:
                raise RuntimeError(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")

    def spawn(self) -> None:
        """Start the prepared process and do not wait."""
        command = [
            *_java(self.version, JVM_BROKER, level="warn"),
            "kafka.Kafka",
            str(self.directory / "server.properties"),
        ]
        self._process = process.spawn(command, log=self.log)
        self.pid = self._process.pid

    def answers(self) -> bool:
        """The broker takes a connection and answers ApiVersions now."""
        try:
            with wire.Connection(self.bootstrap, timeout_seconds=5) as connection:
                return bool(connection.api_versions())
        except OSError:
            return False

    def stop(self) -> None:
        """End the broker by its pid as its own stop script does (SIGTERM), or harder where that takes too long."""
        if self._process is not None:
            process.end(self._process)
            self._process = None

    def kill(self) -> None:
        """End the broker at once, as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def server_properties(data: Path, port: int, controller_port: int, settings: Mapping[str, str]) -> str:
    """server.properties of one combined node on 127.0.0.1; what is not named here has Kafka's default."""
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "true",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        **settings,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def pom(version: str, binding: str | None = None) -> str:
    """A Maven project that depends on Kafka's artifacts in `version`, and on a log4j binding where one is named."""
    wanted = [("org.apache.kafka", artifact, version) for artifact in ARTIFACTS]
    if binding is not None:
        wanted.append(("org.apache.logging.log4j", "log4j-slf4j-impl", binding))
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{number}</version></dependency>"
        for group, artifact, number in wanted
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>riverlog.benchmarks</groupId><artifactId>kafka</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )


def _entry(version: str) -> Path:
    return store.cache_directory() / f"kafka-{version}"


def _fetch(building: Path, version: str) -> None:
    (building / "pom.xml").write_text(pom(version, log4j_version))
    store.run_with_retries(
        ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"], directory=building
    )
    for level in ("warn", "error"):
        (building / f"log4j2-{level}.properties").write_text(LOG4J.format(level=level))


def _java(version: str, options: Sequence[str], *, level: str) -> list[str]:
    classes = classpath(version)
    configuration = _entry(version) / f"log4j2-{level}.properties"
    return ["java", *options, f"-Dlog4j2.configurationFile={configuration}", "-cp", classes]


def _versions(artifact: Path) -> set[str]:
    """The released 4.x in the lists of versions that Maven keeps beside an artifact."""
    found: set[str] = set()
    for listing in artifact.glob("maven-metadata-*.xml"):
        found.update(re.findall(r"<version>(4\.\d+\.\d+)</version>", listing.read_text()))
    return found


def main() -> int:
    """Fetch Kafka, and say which version and whether there is a newer one."""
    if (reason := missing()) is not None:
        print(f"Kafka is not available: {reason}", file=sys.stderr)
        return 1
    print(f"Kafka {version_default}: {len(list(fetch().glob('*.jar')))} jars in the cache")
    if "--newest" in sys.argv[1:]:
        print(f"newest complete 4.x: {newest_version()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
