"""Subscriptions by expression."""

from __future__ import annotations

import pytest

from riverlog.base.limits import kept_text_length_max
from riverlog.state.groups.regex import ResolvedRegexes, compiled
from riverlog.testing.consumer_driver import DrivenTopics


@pytest.mark.parametrize("regex", ["(", "a{2,1}", "(?=a)", r"(a)\1", "*"])
def test_what_is_not_of_re2_is_refused_with_the_reason(regex: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        compiled(regex)


def test_length_has_a_limit() -> None:
    compiled("a" * kept_text_length_max)
    with pytest.raises(ValueError, match="at most"):
        compiled("a" * (kept_text_length_max + 1))


def test_the_whole_name_has_to_match() -> None:
    regexes = ResolvedRegexes(DrivenTopics(a=1, ab=1, ba=1))
    for regex, names in (("a", ["a"]), ("a.*", ["a", "ab"]), ("a|b", ["a"]), ("^a$", ["a"]), ("A(?i)b", [])):
        regexes.use(regex)
        assert sorted(regexes.names(regex)) == names


def test_changed_names_are_kept_up() -> None:
    topics = DrivenTopics(a=1)
    regexes = ResolvedRegexes(topics)
    regexes.use("a.*")
    topics.put("ab", 1)
    assert regexes.changed("ab")
    assert regexes.matches("ab")
    topics.put("b", 1)
    assert not regexes.changed("b")
    topics.delete("a")
    assert regexes.changed("a")
    assert sorted(regexes.names("a.*")) == ["ab"]


def test_an_expression_is_kept_while_a_member_uses_it() -> None:
    regexes = ResolvedRegexes(DrivenTopics(a=1))
    regexes.use("a")
    regexes.use("a")
    regexes.drop("a")
    assert regexes.matches("a")
    regexes.drop("a")
    assert (len(regexes), regexes.matches("a")) == (0, False)


@pytest.mark.parametrize("regex", ["((a|b|c|x|y|z)?){1000}q", "(.{0,200}a.{0,200}){2}z", "(.{0,1000})(.{0,1000})"])
def test_an_expression_that_takes_long_to_match_is_refused(regex: str) -> None:
    with pytest.raises(ValueError, match="large"):
        compiled(regex)


@pytest.mark.parametrize("regex", [r"[a-zA-Z0-9._-]{1,249}", "|".join(f"topic-{n}" for n in range(500)), r"(\w+\.){1,8}x"])
def test_an_expression_of_ordinary_size_is_not(regex: str) -> None:
    compiled(regex)
