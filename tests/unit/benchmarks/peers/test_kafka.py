"""What is said to Maven and to Kafka. Kafka itself runs in the tests marked `oracle`, elsewhere."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.peers import kafka


def test_the_settings_listen_on_loopback_only_and_keep_kafkas_durability() -> None:
    lines = kafka.server_properties(Path("/data"), 1, 2, {"num.partitions": "4", "auto.create.topics.enable": "false"})
    properties = dict(line.split("=", 1) for line in lines.splitlines())
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert properties["num.partitions"] == "4"
    assert properties["auto.create.topics.enable"] == "false"
    assert not any("flush" in name for name in properties)


def test_the_project_for_maven_names_every_artifact_in_one_version() -> None:
    names = {"m": "http://maven.apache.org/POM/4.0.0"}
    root = ElementTree.fromstring(kafka.pom("4.9.9", "2.0"))
    found = {
        dependency.findtext("m:artifactId", namespaces=names): dependency.findtext("m:version", namespaces=names)
        for dependency in root.iterfind(".//m:dependency", names)
    }
    assert found == {**dict.fromkeys(kafka.ARTIFACTS, "4.9.9"), "log4j-slf4j-impl": "2.0"}


def test_without_java_it_is_missing_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RIVERLOG_CACHE", str(tmp_path))
    assert not kafka.available()
    assert "java" in str(kafka.missing())


def test_stopping_what_never_ran_is_harmless(tmp_path: Path) -> None:
    broker = kafka.Kafka(tmp_path)
    broker.stop()
    broker.kill()
