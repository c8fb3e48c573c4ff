"""Every message of every version comes back as it went, and unknown tagged fields change nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.kafka_schema_values import MESSAGES, build, decode, encode, examples, struct_values, versions_of


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_encoded_is_decoded(name: str) -> None:
    module, message = MESSAGES[name]

    @examples(12)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        values = data.draw(struct_values(message.root))
        for version in versions_of(message):
            value = build(module, message.root, values, version)
            body = encode(module, message, version, value)
            assert decode(module, message, version, body) == value
            assert encode(module, message, version, decode(module, message, version, body)) == body

    check()


@pytest.mark.parametrize("name", [name for name, (_, message) in MESSAGES.items() if message.flexible.last > 0])
def test_unknown_tagged_fields_at_the_end_are_skipped(name: str) -> None:
    module, message = MESSAGES[name]
    for version in versions_of(message):
        if not message.is_flexible(version):
            continue
        value = class_default = build_default(name, version)
        body = encode(module, message, version, value)
        assert body[-1] == 0, "no tagged fields"
        longer = body[:-1] + b"\2" + b"\x63\3abc" + b"\xff\x01\0"
        assert decode(module, message, version, longer) == class_default


def build_default(name: str, version: int) -> object:
    from tests.properties.kafka_schema_values import class_of

    module, message = MESSAGES[name]
    return class_of(module, message.root)()
