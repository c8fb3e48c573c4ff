"""Writes the enumerations: api keys with their versions, error codes."""

from __future__ import annotations

from tools.kafka_schema.classes import HEADER
from tools.kafka_schema.definitions import Module


def write_api_keys(modules: list[Module]) -> str:
    """The text of `schema/api_keys.py`."""
    keyed = [module for module in modules if module.api_key >= 0]
    lines = [
        f'"""Every api key of a client\'s protocol, its versions and where its code is. {HEADER}"""',
        "",
        "from __future__ import annotations",
        "",
        "from enum import IntEnum",
        "from typing import Final",
        "",
        "",
        "class ApiKey(IntEnum):",
        '    """The number that opens every request."""',
        "",
    ]
    lines += [f"    {module.name.upper()} = {module.api_key}" for module in keyed]
    lines += ["", "", "# (first version, last stable version, first flexible version, or 32767 where there is none)"]
    lines.append("VERSIONS: Final[dict[int, tuple[int, int, int]]] = {")
    for module in keyed:
        versions, flexible = module.messages[0].versions, module.messages[0].flexible
        first_flexible = flexible.first if flexible.last >= flexible.first else 32767
        row = (versions.first, versions.last, first_flexible)
        lines.append(f"    {module.api_key}: {row},  # {module.api_name}")
    lines += ["}", "", "# The files under `schema/` and `schema/codec/` by api key."]
    lines.append("CODECS: Final[dict[int, str]] = {")
    lines += [f'    {module.api_key}: "{module.name}",' for module in keyed]
    lines += ["}", "", "# The same for the structures that are neither request nor response, by class name."]
    lines.append("STRUCTURES: Final[dict[str, str]] = {")
    lines += [f'    "{module.messages[0].name}": "{module.name}",' for module in modules if module.api_key < 0]
    return "\n".join([*lines, "}"]) + "\n"


def write_error_codes(errors: list[tuple[int, str, bool]]) -> str:
    """The text of `schema/error_codes.py`."""
    lines = [
        f'"""Every error code, and which of them a client may answer by trying again. {HEADER}"""',
        "",
        "from __future__ import annotations",
        "",
        "from enum import IntEnum",
        "from typing import Final",
        "",
        "",
        "class ErrorCode(IntEnum):",
        '    """The number in the `error_code` of an answer."""',
        "",
    ]
    lines += [f"    {name} = {code}" for code, name, _ in errors]
    lines += ["", "", "RETRIABLE: Final = frozenset(", "    {"]
    lines += [f"        ErrorCode.{name}," for _, name, retriable in errors if retriable]
    return "\n".join([*lines, "    }", ")"]) + "\n"
