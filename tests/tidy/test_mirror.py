"""Every module has its own tests: src/riverlog/a/b.py is tested by tests/unit/a/test_b.py."""

from __future__ import annotations

from typing import Final

from tests.tidy.tree import files, ours

# Tested through others: the reason says where.
DECLARED_UNTESTED: Final[dict[str, str]] = {
    "__main__": "one call of riverlog.cli.main; tests/unit/cli runs `python -m riverlog`",
    "base/limits": "constants only",
    "broker/broker": "holds its parts together; tests/unit/broker tests each part through it",
    "broker/settings": "a value without behaviour; tests/unit/server/test_settings.py fills every field",
    "catalog/contract": "a protocol; tests/conformance holds every catalog to it",
    "gateways/http/metrics": "tests/process asks a running broker for /metrics",
    "records/record": "values without behaviour; tests/unit/records makes and reads them",
    "testing/brokers": "a tool of tests: tests/unit/broker runs on it",
    "testing/conformance/catalog": "a suite, run by tests/conformance",
    "testing/kafka_calls": "a tool of tests: the handlers' tests run on it",
    "testing/kafka_client": "a tool of tests: tests/process runs on it",
    "testing/recording_engine": "a tool of tests: tests/unit/broker runs on it",
    "testing/simulation/command": "tests/unit/testing/simulation/test_run.py and tests/unit/cli run it",
    "testing/simulation/deeds": "as the machine",
    "testing/simulation/lives": "as the machine",
    "testing/simulation/machine": "tests/simulation runs a thousand of its histories, and finds what is broken on purpose",
    "testing/simulation/readers": "as the machine",
    "testing/simulation/senders": "as the machine",
    "testing/simulation/transactions/actors": "as the machine",
    "testing/simulation/transactions/clients": "as the machine",
    "testing/simulation/transactions/machine": "tests/simulation runs its histories, and finds what is broken on purpose",
    "testing/simulation/transactions/plans": "values without behaviour; the clients send them",
    "testing/simulation/transactions/service": "as the machine",
    "testing/topic_world": "a tool of tests: tests/unit/broker and the handlers' tests run on it",
}


def modules() -> set[str]:
    """`a/b` for src/riverlog/a/b.py; packages count by their modules."""
    paths = (path.removeprefix("src/riverlog/").removesuffix(".py") for path in ours(".py", "src/riverlog/"))
    return {path for path in paths if not path.endswith("__init__")}


def mirrored() -> set[str]:
    """`a/b` for tests/unit/a/test_b.py; `a/__main__` is tested by test_main.py."""
    found = set()
    for path in ours(".py", "tests/unit/"):
        folder, _, name = path.removeprefix("tests/unit/").rpartition("/")
        if name.startswith("test_"):
            module = name.removeprefix("test_").removesuffix(".py")
            module = "__main__" if module == "main" else module
            found.add(f"{folder}/{module}" if folder else module)
    return found


def test_every_module_has_its_own_tests() -> None:
    assert modules() - mirrored() - DECLARED_UNTESTED.keys() == set()


def test_the_list_of_exceptions_is_honest() -> None:
    assert DECLARED_UNTESTED.keys() - modules() == set(), "gone"
    assert DECLARED_UNTESTED.keys() & mirrored() == set(), "tested by now"


def test_tests_of_modules_that_are_gone_are_gone() -> None:
    """A test file of tests/unit that names no module or package would never be missed."""
    packages = {
        path.removeprefix("src/riverlog/").rpartition("/")[0] for path in files() if path.startswith("src/riverlog/")
    }
    stale = {
        one
        for one in mirrored()
        if one not in modules()
        and one.rpartition("/")[0] not in packages
        and not one.startswith(("tools/", "benchmarks/"))
    }
    assert stale == set()
