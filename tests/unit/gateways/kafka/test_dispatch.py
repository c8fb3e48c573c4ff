"""The table of handlers: one file an api key, declared once, with versions that the codec has."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

from riverlog.gateways.kafka import handlers
from riverlog.gateways.kafka.dispatch import HANDLERS, Address, Hangup, handles, load_handlers
from riverlog.gateways.kafka.schema.api_keys import VERSIONS, ApiKey

FILES = sorted(module.name for module in pkgutil.iter_modules(handlers.__path__))
load_handlers()

# What issue 3 lists. More may be served; each of these must be.
DEMANDED = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 32, 33, 37, 42, 44, 60, 75]


def test_every_file_declares_the_api_key_that_it_is_named_for() -> None:
    assert FILES
    assert {ApiKey(key).name.lower() for key in HANDLERS} == set(FILES)
    for key, handler in HANDLERS.items():
        assert handler.api_key == key
        assert handler.function.__module__ == f"{handlers.__name__}.{ApiKey(key).name.lower()}"


def test_loading_again_declares_nothing_again() -> None:
    before = dict(HANDLERS)
    assert load_handlers() is HANDLERS
    assert before == HANDLERS


def test_nothing_is_declared_before_it_is_loaded() -> None:
    """`import riverlog.gateways.kafka.dispatch` costs no handler; asked in a process of its own."""
    program = (
        "from riverlog.gateways.kafka.dispatch import HANDLERS, load_handlers\n"
        "assert not HANDLERS\n"
        "print(len(load_handlers()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == len(FILES)


def test_an_api_key_is_handled_once() -> None:
    before = dict(HANDLERS)

    def another(call: object, request: object) -> None:
        """Never asked."""

    with pytest.raises(AssertionError, match="FETCH is handled twice"):
        handles(ApiKey.FETCH, range(4, 5))(another)
    assert before == HANDLERS


def test_a_declaration_gives_the_function_itself() -> None:
    def function(call: object, request: object) -> None:
        """Not served: taken out again below."""

    unserved = next(key for key in ApiKey if key not in HANDLERS)
    try:
        assert handles(unserved, range(0, 1))(function) is function
        assert HANDLERS[unserved].versions == range(0, 1)
    finally:
        del HANDLERS[unserved]


@pytest.mark.parametrize("key", sorted(HANDLERS), ids=lambda key: ApiKey(key).name)
def test_the_versions_are_all_those_that_are_stable(key: int) -> None:
    """From the first to the last that the codec has, but for Produce 0-2, which magic 0 and 1 went with."""
    first, last, _ = VERSIONS[key]
    versions = HANDLERS[key].versions
    assert versions.step == 1
    assert (versions.start, versions.stop) == (3 if key == ApiKey.PRODUCE else first, last + 1)


def test_what_was_promised_is_served() -> None:
    assert set(DEMANDED) <= set(HANDLERS)


def test_what_others_compare() -> None:
    assert Address("127.0.0.1", 9092) == ("127.0.0.1", 9092)
    assert str(Hangup("why")) == "why"
