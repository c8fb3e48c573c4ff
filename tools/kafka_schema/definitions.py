"""The message definitions, read and resolved: names as our code has them, structs found, versions as ranges.

Invariant: class names are unique within a pair of messages; a struct comes after the structs that it holds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
OPEN_END: Final = 32767  # "3+"

PRIMITIVES: Final = frozenset(
    {"bool", "int8", "int16", "uint16", "int32", "int64", "float64", "string", "bytes", "records", "uuid"}
)


@dataclass(frozen=True, slots=True)
class Versions:
    """Both ends included. Empty where last < first."""

    first: int
    last: int

    def __contains__(self, version: int) -> bool:
        return self.first <= version <= self.last

    def __str__(self) -> str:
        if self.last < self.first:
            return "none"
        if self.last == OPEN_END:
            return f"{self.first}+"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


NO_VERSIONS: Final = Versions(0, -1)


def parse_versions(text: str) -> Versions:
    """`"4-18"`, `"3+"`, `"0"`, `"none"`."""
    if text == "none":
        return NO_VERSIONS
    if text.endswith("+"):
        return Versions(int(text[:-1]), OPEN_END)
    first, _, last = text.partition("-")
    return Versions(int(first), int(last or first))


def snake(name: str) -> str:
    """`ThrottleTimeMs` -> `throttle_time_ms`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    fact_name: str  # as the definition has it
    type: str  # a primitive, or "struct"
    array: bool
    versions: Versions
    nullable: Versions
    tagged: Versions
    tag: int
    flexible: bool  # False: written the old way in flexible versions too (a request header's client id)
    default: str | None  # as the definition has it, in text
    struct: Struct | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Struct:
    name: str  # the class
    fact_name: str
    message: str
    fields: tuple[Field, ...]

    def fields_of(self, version: int) -> list[Field]:
        """Those of that version that are not tagged, in their order."""
        return [field for field in self.fields if version in field.versions and version not in field.tagged]

    def tagged_fields_of(self, version: int) -> list[Field]:
        """The tagged ones of that version, by tag."""
        found = [field for field in self.fields if version in field.versions and version in field.tagged]
        return sorted(found, key=lambda field: field.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    name: str
    kind: str  # request, response, header, data
    api_key: int  # -1 where there is none
    versions: Versions  # the stable ones
    flexible: Versions
    root: Struct
    structs: tuple[Struct, ...]  # inner ones first, the root last

    def is_flexible(self, version: int) -> bool:
        return version in self.flexible


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One file: a request and its response, or one structure that is neither."""

    name: str  # of the file
    api_name: str
    api_key: int
    messages: tuple[Message, ...]


class Resolver:
    """Makes the structs of one message. `prefixed` holds the struct names that need the message's name before them."""

    def __init__(self, facts: dict[str, Any], prefixed: frozenset[str]) -> None:
        self.message: str = facts["name"]
        self.prefixed = prefixed
        self.common = {struct["name"]: struct["fields"] for struct in facts.get("commonStructs", ())}
        self.structs: dict[str, Struct] = {}

    def struct(self, fact_name: str, fields: list[dict[str, Any]], name: str) -> Struct:
        made = Struct(
            name=name,
            fact_name=fact_name,
            message=self.message,
            fields=tuple(self.field(field) for field in fields),
        )
        assert name not in self.structs or self.structs[name] == made, f"{self.message} has two structs {name}"
        self.structs[name] = made
        return made

    def field(self, facts: dict[str, Any]) -> Field:
        kind: str = facts["type"]
        array = kind.startswith("[]")
        kind = kind.removeprefix("[]")
        struct: Struct | None = None
        if kind not in PRIMITIVES:
            fields = facts["fields"] if "fields" in facts else self.common[kind]
            name = self.message + kind if kind in self.prefixed else kind
            struct = self.struct(kind, fields, name)
            kind = "struct"
        default = facts.get("default")
        return Field(
            name=snake(facts["name"]),
            fact_name=facts["name"],
            type=kind,
            array=array,
            versions=parse_versions(facts["versions"]),
            nullable=parse_versions(facts.get("nullableVersions", "none")),
            tagged=parse_versions(facts.get("taggedVersions", "none")),
            tag=facts.get("tag", -1),
            flexible=facts.get("flexibleVersions") != "none",
            default=None if default is None else str(default).lower() if isinstance(default, bool) else str(default),
            struct=struct,
        )


def struct_names(facts: dict[str, Any]) -> set[str]:
    """The names of the structs inside one message, as the definition has them."""
    names = {struct["name"] for struct in facts.get("commonStructs", ())}
    pending = list(facts["fields"])
    for struct in facts.get("commonStructs", ()):
        pending += struct["fields"]
    while pending:
        field = pending.pop()
        if field["type"].removeprefix("[]") not in PRIMITIVES:
            names.add(field["type"].removeprefix("[]"))
        pending += field.get("fields", ())
    return names


def stable_versions(facts: dict[str, Any]) -> Versions:
    versions = parse_versions(facts["validVersions"])
    return Versions(versions.first, versions.last - 1) if facts.get("latestVersionUnstable") else versions


def resolve(facts: dict[str, Any], prefixed: frozenset[str], versions: Versions) -> Message:
    resolver = Resolver(facts, prefixed)
    root = resolver.struct(facts["name"], facts["fields"], facts["name"])
    return Message(
        name=facts["name"],
        kind=facts["type"],
        api_key=facts.get("apiKey", -1),
        versions=versions,
        flexible=parse_versions(facts["flexibleVersions"]),
        root=root,
        structs=tuple(resolver.structs.values()),
    )


def load_modules(directory: Path = HERE / "messages") -> list[Module]:
    """All definitions: pairs by api key, then the others by name."""
    everything = [json.loads(path.read_text("utf-8")) for path in sorted(directory.glob("*.json"))]
    top_level = {facts["name"] for facts in everything}
    groups: dict[str, list[dict[str, Any]]] = {}
    for facts in everything:
        api = facts["type"] in ("request", "response")
        name = facts["name"].removesuffix("Request").removesuffix("Response") if api else facts["name"]
        groups.setdefault(name, []).append(facts)
    modules = []
    for name, group in groups.items():
        names = [struct_names(facts) for facts in group]
        shared = frozenset(set.intersection(*names) if len(names) == 2 else set())
        prefixed = shared | frozenset(set.union(*names) & top_level)
        group.sort(key=lambda facts: str(facts["type"]))  # the request before the response
        ranges = [stable_versions(facts) for facts in group]
        versions = Versions(max(each.first for each in ranges), min(each.last for each in ranges))
        messages = tuple(resolve(facts, prefixed, versions) for facts in group)
        modules.append(Module(name=snake(name), api_name=name, api_key=messages[0].api_key, messages=messages))
    return sorted(modules, key=lambda module: (module.api_key < 0, module.api_key, module.name))


def load_errors(path: Path = HERE / "errors.tsv") -> list[tuple[int, str, bool]]:
    """(code, name, whether a client may try again)."""
    lines = path.read_text("utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines if line]
    return [(int(code), name, retriable == "yes") for code, name, retriable in rows]
