"""Clients of other people that our client tests run: `python -m tools.clients` installs them, the functions find them.

Invariant: finding never installs and never uses the network; installing what is there already does nothing.
Not for the clients that pip brings with the development extras (confluent-kafka, kafka-python, aiokafka)."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers import cache as store
from benchmarks.peers import kafka

kafkajs_version: Final = "2.2.4"


class Client(NamedTuple):
    """One foreign client: how it is found (None where it is missing) and how it is installed (RuntimeError)."""

    name: str
    find: Callable[[], str | Path | None]
    install: Callable[[], None]


def kcat() -> Path | None:
    """The program kcat, or None."""
    return _program("kcat")


def strace() -> Path | None:
    """The program strace, or None."""
    return _program("strace")


def kafkajs() -> Path | None:
    """The `node_modules` directory with kafkajs in it (for NODE_PATH), or None where it or node is missing."""
    modules = store.cache_directory() / _kafkajs_entry() / "node_modules"
    return modules if shutil.which("node") and (modules / "kafkajs").is_dir() else None


def java_classpath() -> str | None:
    """The classpath of Kafka's Java client, tools and broker, or None where it or java is missing."""
    return kafka.classpath() if shutil.which("java") and kafka.is_fetched() else None


def kafka_streams_classpath() -> str | None:
    """The classpath of Kafka Streams in the version of the other jars, or None where it or java is missing."""
    libraries = store.cache_directory() / _kafka_streams_entry() / "libs"
    return f"{libraries}/*" if shutil.which("java") and libraries.is_dir() else None


def kafka_python_sdist() -> Path | None:
    """The unpacked source distribution of the installed kafka-python (with test/integration), or None."""
    version = _kafka_python_version()
    if version is None:
        return None
    unpacked = store.cache_directory() / f"kafka-python-{version}" / "source"
    return unpacked if unpacked.is_dir() else None


def require(name: str) -> str | Path:
    """What `name` (a name in CLIENTS) is found as. In a test: skips by name when it is missing, and fails
    where RIVERLOG_REQUIRE (names with commas between) says that it must be there."""
    import pytest  # only tests call this, and the installer runs without pytest

    found = CLIENTS[name].find()
    if found is not None:
        return found
    reason = f"{name} is missing: run `python -m tools.clients`"
    if name in required():
        raise pytest.fail.Exception(f"{reason} (RIVERLOG_REQUIRE names it)")
    raise pytest.skip.Exception(reason)


def required() -> set[str]:
    """The names in RIVERLOG_REQUIRE."""
    return {name.strip() for name in os.environ.get("RIVERLOG_REQUIRE", "").split(",") if name.strip()}


def _program(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _install_by_apt(package: str) -> Callable[[], None]:
    def install() -> None:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise RuntimeError(f"install `{package}` with your system's packages (apt-get needs root)")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        try:
            store.run_with_retries(command, environment=quiet, attempts=1)
        except RuntimeError:  # the lists of packages may be old or not there at all
            store.run_with_retries(["apt-get", "update", "-qq"], environment=quiet)
            store.run_with_retries(command, environment=quiet)

    return install


def _kafkajs_entry() -> str:
    return f"kafkajs-{kafkajs_version}"


def _install_kafkajs() -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise RuntimeError("node or npm is missing: install Node.js")

    def build(building: Path) -> None:
        (building / "package.json").write_text('{"private": true}\n')
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        store.run_with_retries([*command, f"kafkajs@{kafkajs_version}"], directory=building)

    store.cached(_kafkajs_entry(), build)


def _install_java() -> None:
    if (reason := kafka.missing()) is not None:
        raise RuntimeError(reason)
    kafka.fetch()


def _kafka_streams_entry() -> str:
    return f"kafka-streams-{kafka.version_default}"


def _install_kafka_streams() -> None:
    if (reason := kafka.missing()) is not None:
        raise RuntimeError(reason)

    def build(building: Path) -> None:
        (building / "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            "<groupId>riverlog.tests</groupId><artifactId>streams</artifactId><version>1</version><dependencies>"
            "<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-streams</artifactId>"
            f"<version>{kafka.version_default}</version></dependency></dependencies></project>\n"
        )
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
        store.run_with_retries(command, directory=building)

    store.cached(_kafka_streams_entry(), build)


def _kafka_python_version() -> str | None:
    try:
        return importlib.metadata.version("kafka-python")
    except importlib.metadata.PackageNotFoundError:
        return None


def _install_kafka_python_sdist() -> None:
    version = _kafka_python_version()
    if version is None:
        raise RuntimeError("kafka-python itself is not installed: `pip install kafka-python`")

    def build(building: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-binary", ":all:", "--no-deps", "--dest", str(building), f"kafka-python=={version}"]
        store.run_with_retries(command)
        archive = next(building.glob("*.tar.gz"))
        with tarfile.open(archive) as packed:
            packed.extractall(building / "unpacked", filter="data")
        next((building / "unpacked").iterdir()).rename(building / "source")
        archive.unlink()

    store.cached(f"kafka-python-{version}", build)


CLIENTS: Final = {
    client.name: client
    for client in (
        Client("kcat", kcat, _install_by_apt("kcat")),
        Client("strace", strace, _install_by_apt("strace")),
        Client("node", kafkajs, _install_kafkajs),
        Client("java", java_classpath, _install_java),
        Client("kafka-streams", kafka_streams_classpath, _install_kafka_streams),
        Client("kafka-python-sdist", kafka_python_sdist, _install_kafka_python_sdist),
    )
}


def install(name: str) -> str | None:
    """Make the client `name` be there; None, or why it is not."""
    client = CLIENTS[name]
    if client.find() is not None:
        return None
    try:
        client.install()
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if client.find() is not None else f"{name} was installed and is not found"
