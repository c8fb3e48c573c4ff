"""Fixtures for anybody's tests: `riverlog_broker` (one in-memory broker a session) and `riverlog_topic` (a fresh topic a test).

Imports nothing of riverlog until a fixture is used, so that it costs other test suites nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from riverlog.library import Broker

_numbers = count()


@pytest.fixture(scope="session")
def riverlog_broker() -> Iterator[Broker]:
    """A broker in memory, in this process; its address is `riverlog_broker.bootstrap_servers`."""
    from riverlog.library import Broker

    with Broker() as broker:
        yield broker


@pytest.fixture
def riverlog_topic(riverlog_broker: Broker, request: pytest.FixtureRequest) -> str:
    """The name of a fresh topic of one partition."""
    name = "".join(character if character.isalnum() else "-" for character in request.node.name)[:100]
    topic = f"{name}-{next(_numbers)}"
    riverlog_broker.create_topic(topic)
    return topic
