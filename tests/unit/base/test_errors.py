"""Errors carry a kind for programs and a message for people."""

from __future__ import annotations

from riverlog.base.errors import Corruption, ErrorKind, RiverlogError, message_length_max


def test_an_error_shows_its_kind_and_says_its_message() -> None:
    error = RiverlogError(ErrorKind.STORAGE, "the disk is full: make room")
    assert str(error) == error.message == "the disk is full: make room"
    assert repr(error) == "RiverlogError(STORAGE, 'the disk is full: make room')"


def test_a_message_that_names_something_long_is_cut() -> None:
    message = RiverlogError(ErrorKind.INVALID_REQUEST, f"topic {'x' * 100_000} is too long").message
    assert len(message) == message_length_max
    assert message.startswith("topic x")
    assert message.endswith("x is too long")


def test_corruption_names_the_place() -> None:
    error = Corruption("a.log", 61, "the CRC does not match")
    assert error.kind is ErrorKind.STORAGE
    assert error.message == "a.log: the CRC does not match at position 61"


def test_the_names_of_kinds_are_unique_and_stable_words() -> None:
    values = [kind.value for kind in ErrorKind]
    assert len(set(values)) == len(values)
    assert all(value == kind.name.lower().replace("_", "-") for kind, value in zip(ErrorKind, values, strict=True))
