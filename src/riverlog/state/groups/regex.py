"""Subscriptions by regular expression: RE2, in linear time, and a topic's whole name has to match.

What an expression matches is resolved once and then kept up by the names that changed, not by all there are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # it has no types

from riverlog.base.limits import kept_text_length_max
from riverlog.state.groups.topics import TopicsView

# Instructions beyond one a character: what a match takes at worst grows with them, and repetitions multiply them.
program_size_max: Final = 2_000

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20  # of each expression: more is spent on states that a name of a topic is too short to need


def compiled(regex: str) -> Any:
    """Raises ValueError with the reason."""
    if len(regex) > kept_text_length_max:
        raise ValueError(f"a regular expression has at most {kept_text_length_max} characters, not {len(regex)}")
    try:
        pattern = re2.compile(regex, _OPTIONS)
    except re2.error as cause:
        reason = cause.args[0] if cause.args else ""
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from cause
    if pattern.programsize > program_size_max + len(regex):
        raise ValueError(f"it is too large: repeat less, or name the topics ({pattern.programsize} instructions)")
    return pattern


class ResolvedRegexes:
    """The names that each expression of a group matches. `uses` counts the members of each."""

    def __init__(self, topics: TopicsView) -> None:
        self._topics = topics
        self._patterns: dict[str, Any] = {}
        self._names: dict[str, set[str]] = {}
        self._uses: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._patterns)

    def use(self, regex: str) -> None:
        """The expression is known to compile."""
        self._uses[regex] = self._uses.get(regex, 0) + 1
        if regex not in self._patterns:
            self._patterns[regex] = compiled(regex)
            self._resolve(regex)

    def look_again(self) -> None:
        """At all topics: nobody told of those that changed."""
        for regex in self._patterns:
            self._resolve(regex)

    def _resolve(self, regex: str) -> None:
        matches = self._patterns[regex].fullmatch
        self._names[regex] = {name for name in self._topics.by_name if matches(name)}

    def drop(self, regex: str) -> None:
        self._uses[regex] -= 1
        if not self._uses[regex]:
            del self._uses[regex], self._patterns[regex], self._names[regex]

    def names(self, regex: str) -> Collection[str]:
        return self._names[regex]

    def matches(self, name: str) -> bool:
        """Whether somebody subscribes to the topic by expression."""
        return any(name in names for names in self._names.values())

    def changed(self, name: str) -> bool:
        """The topic was made or deleted or changed. Whether some expression matches it, or did."""
        there = name in self._topics.by_name
        concerned = False
        for regex, names in self._names.items():
            if name in names:
                concerned = True
                if not there:
                    names.remove(name)
            elif there and self._patterns[regex].fullmatch(name):
                names.add(name)
                concerned = True
        return concerned
