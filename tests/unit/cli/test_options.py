"""What commands share."""

from __future__ import annotations

import pytest

from riverlog.cli.errors import WRONG_USE, CommandError
from riverlog.cli.options import option, some


def test_nothing_named_is_a_mistake_on_the_line() -> None:
    assert some(("a",), "group") == ("a",)
    with pytest.raises(CommandError, match="name at least one group") as refused:
        some((), "group")
    assert refused.value.status == WRONG_USE


def test_an_option_has_no_opposite() -> None:
    made = option("--clamp", "-c", help="Some.")
    assert made.name == ("--clamp", "-c")
    assert made.negative == ()
