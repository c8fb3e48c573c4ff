"""The generator: what it makes of definitions, and that what lies in the tree is what it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.kafka_schema.__main__ import TARGET, differences, generate, main
from tools.kafka_schema.classes import default_of, type_of, versions_note, write_classes
from tools.kafka_schema.codecs import write_codec
from tools.kafka_schema.definitions import NO_VERSIONS, Versions, load_errors, load_modules, parse_versions, snake
from tools.kafka_schema.layout import least_size

Facts = dict[str, Any]


def write_facts(directory: Path, *everything: Facts) -> Path:
    for facts in everything:
        (directory / f"{facts['name']}.json").write_text(json.dumps(facts), "utf-8")
    return directory


def facts(name: str, kind: str, fields: list[Facts], **more: Any) -> Facts:
    base = {"name": name, "type": kind, "validVersions": "0-3", "flexibleVersions": "2+", "fields": fields}
    return base | ({"apiKey": 5} if kind in ("request", "response") else {}) | more


def test_the_tree_is_what_is_generated() -> None:
    assert differences(generate(), TARGET) == []


def test_the_same_facts_give_the_same_files() -> None:
    assert generate() == generate()


def test_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0
    (tmp_path / "fetch.py").write_text("x = 1\n")
    (tmp_path / "codec" / "produce.py").unlink()
    (tmp_path / "own.py").write_text("")
    assert main(["--out", str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().err
    assert "fetch.py: differs" in said
    assert "codec/produce.py: missing" in said
    assert "own.py: not ours" in said
    assert "run: python -m tools.kafka_schema" in said
    assert main(["--out", str(tmp_path)]) == 0
    assert not (tmp_path / "own.py").exists()


@pytest.mark.parametrize(
    ("text", "versions", "back"),
    [
        ("0+", Versions(0, 32767), "0+"),
        ("4-18", Versions(4, 18), "4-18"),
        ("7", Versions(7, 7), "7"),
        ("none", NO_VERSIONS, "none"),
    ],
)
def test_versions(text: str, versions: Versions, back: str) -> None:
    assert parse_versions(text) == versions
    assert str(versions) == back
    assert 99 not in Versions(4, 18)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ThrottleTimeMs", "throttle_time_ms"), ("IsSASLUsed", "is_sasl_used"), ("Name", "name"), ("ISRNodes", "isr_nodes")],
)
def test_names(name: str, expected: str) -> None:
    assert snake(name) == expected


def test_an_unstable_version_is_left_out_of_both(tmp_path: Path) -> None:
    request = facts("XRequest", "request", [], latestVersionUnstable=True)
    (module,) = load_modules(write_facts(tmp_path, request, facts("XResponse", "response", [])))
    assert [str(message.versions) for message in module.messages] == ["0-2", "0-2"]
    assert [message.kind for message in module.messages] == ["request", "response"]


def test_names_in_both_messages_get_the_message_before_them(tmp_path: Path) -> None:
    inner = {"name": "Inner", "type": "[]Thing", "versions": "0+", "fields": [{"name": "A", "type": "int8", "versions": "0+"}]}
    only = {"name": "Only", "type": "Part", "versions": "1+", "fields": [{"name": "B", "type": "uuid", "versions": "0+"}]}
    clash = {"name": "Clash", "type": "Other", "versions": "0+", "fields": [{"name": "B", "type": "bool", "versions": "0+"}]}
    directory = write_facts(
        tmp_path,
        facts("XRequest", "request", [inner, only, clash]),
        facts("XResponse", "response", [inner]),
        facts("Other", "data", []),
    )
    module = load_modules(directory)[0]
    assert [struct.name for struct in module.messages[0].structs] == [
        "XRequestThing", "Part", "XRequestOther", "XRequest",
    ]  # fmt: skip
    assert [struct.name for struct in module.messages[1].structs] == ["XResponseThing", "XResponse"]


def test_fields_get_types_defaults_and_notes(tmp_path: Path) -> None:
    fields: list[Facts] = [
        {"name": "A", "type": "int32", "versions": "0+", "default": "0x7fffffff"},
        {"name": "B", "type": "string", "versions": "0+", "nullableVersions": "1+", "default": "null"},
        {"name": "C", "type": "[]int16", "versions": "1-2"},
        {"name": "D", "type": "bool", "versions": "0+", "default": True},
        {"name": "E", "type": "records", "versions": "0+", "nullableVersions": "0+"},
        {"name": "F", "type": "float64", "versions": "3+", "taggedVersions": "3+", "tag": 4},
        {"name": "G", "type": "string", "versions": "2+"},
    ]
    directory = write_facts(tmp_path, facts("XRequest", "request", fields), facts("XResponse", "response", []))
    (module,) = load_modules(directory)
    message = module.messages[0]
    assert [default_of(field) for field in message.root.fields] == ["2147483647", "None", "()", "True", "None", "0.0", '""']
    assert [type_of(field, "response") for field in message.root.fields] == [
        "int", "str | None", "Sequence[int]", "bool", "bytes | bytearray | memoryview | HasSize | None", "float", "str",
    ]  # fmt: skip
    assert [versions_note(field) for field in message.root.fields] == [
        "0+", "0+, null in 1+", "1-2", "0+", "0+", "3+, tag 4", "2+",
    ]  # fmt: skip
    assert [least_size(message.root, version, message.is_flexible(version)) for version in range(4)] == [
        11, 15, 4 + 1 + 1 + 1 + 1 + 1 + 1, 4 + 1 + 1 + 1 + 1 + 1,
    ]  # fmt: skip


def test_versions_of_one_layout_share_one_function() -> None:
    modules = {module.name: module for module in load_modules()}
    text = write_codec(modules["fetch"])
    assert "    14: read_fetch_request_13,\n" in text
    assert "def read_fetch_request_14(" not in text
    assert "16: read_fetch_request_15," in text


def test_generated_files_say_so() -> None:
    for name, text in generate().items():
        first = text.splitlines()[0]
        assert "Generated by tools.kafka_schema" in first, name
        assert text.endswith("\n"), name
    assert write_classes(load_modules()[0]).startswith('"""ProduceRequest and ProduceResponse (api key 0), versions 3-13.')


def test_the_error_table_is_read_whole() -> None:
    errors = load_errors()
    assert errors[0] == (-1, "UNKNOWN_SERVER_ERROR", False)
    assert (2, "CORRUPT_MESSAGE", True) in errors
    assert len(errors) == 135
