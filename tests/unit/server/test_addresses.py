"""Addresses as people and as Kafka's settings write them."""

from __future__ import annotations

import pytest

from riverlog.server.addresses import HostPort, is_loopback, parse_host_port, parse_listeners


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9092", ("127.0.0.1", 9092)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9092", ("::1", 9092)),
        (":9092", ("0.0.0.0", 9092)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_host_port(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:65536", "::1:9092", "http://host:80", "a b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"give HOST:PORT|needs brackets"):
        parse_host_port(text)


def test_text_puts_brackets_around_ipv6() -> None:
    assert HostPort("::1", 9092).text == "[::1]:9092"
    assert parse_host_port(HostPort("::1", 9092).text) == HostPort("::1", 9092)


def test_the_client_listener_is_found_beside_a_controller() -> None:
    text = "PLAINTEXT://127.0.0.1:9092, CONTROLLER://:9093"
    assert parse_listeners(text, controllers=["CONTROLLER"]) == HostPort("127.0.0.1", 9092)


def test_a_listener_may_have_a_name_of_its_own() -> None:
    assert parse_listeners("INSIDE://a:1", protocols="INSIDE:PLAINTEXT,OUTSIDE:SSL") == HostPort("a", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SSL://h:1", "not built yet"),
        ("127.0.0.1:9092", "give PLAINTEXT://"),
        ("PLAINTEXT://a:1,PLAINTEXT://b:1", "names 2 listeners"),
    ],
)
def test_other_listeners_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_listeners(text)


def test_loopback() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "host", "127.0.0.1.evil.org", "1127.0.0.1"]))
