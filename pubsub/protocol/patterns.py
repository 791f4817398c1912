"""Names of topics, and patterns that cover them: ``*`` is one segment, ``>`` at the end is one or more. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown

ONE_SEGMENT: Final = "*"
REST: Final = ">"

_END: Final = "."  # a key that no segment can be; its value is the number of the pattern that ends here

MAX_TOPIC: Final = 255  # characters of a name
_CHARACTERS: Final = r"A-Za-z0-9_\-:~"
# As regular expressions, without the limit of characters, for the server and for the documents.
TOPIC_SYNTAX: Final = rf"[{_CHARACTERS}]+(?:\.[{_CHARACTERS}]+)*"
PATTERN_SYNTAX: Final = rf"(?:>|(?:[{_CHARACTERS}]+|\*)(?:\.(?:[{_CHARACTERS}]+|\*))*(?:\.>)?)"

_is_topic = re.compile(rf"(?=.{{1,{MAX_TOPIC}}}\Z){TOPIC_SYNTAX}", re.ASCII).fullmatch
_is_pattern = re.compile(rf"(?=.{{1,{MAX_TOPIC}}}\Z){PATTERN_SYNTAX}", re.ASCII).fullmatch


def check_topic(name: str) -> None:
    """Raise BadRequest for an invalid topic name."""
    if not _is_topic(name):
        raise BadRequest(
            "topic: expected 1 to 255 of ASCII letters, digits and _ - . : ~ in segments parted by '.', "
            f"got {shown(name)}"
        )


def is_pattern(text: str) -> bool:
    """True for a valid pattern. Each valid name is one, which covers itself alone."""
    return _is_pattern(text) is not None


def has_wildcard(text: str) -> bool:
    """True if ``text`` is meant as a pattern and not as a name."""
    return ONE_SEGMENT in text or REST in text


def check_pattern(text: str) -> None:
    """Raise BadRequest for a pattern that is not valid."""
    if not is_pattern(text):
        raise BadRequest(
            "topic: expected a pattern with * for a whole segment, and > only as the last one, in place of the "
            f"segments of a name, got {shown(text)}"
        )


def literal_prefix(pattern: str) -> str:
    """The beginning of all names that the valid ``pattern`` covers."""
    return pattern.partition(ONE_SEGMENT)[0].partition(REST)[0]


@lru_cache(maxsize=256)
def matcher(pattern: str) -> Callable[[str], object | None]:
    """A function that returns None for names which the valid ``pattern`` does not cover: 0.2 µs a call."""
    segments = [rf"[{_CHARACTERS}]+" if each == ONE_SEGMENT else re.escape(each) for each in pattern.split(".")]
    if pattern.endswith(REST):
        segments[-1] = f"[{_CHARACTERS}.]+"
    return re.compile(r"\.".join(segments)).fullmatch


def covers(pattern: str, name: str) -> bool:
    """True if the valid ``pattern`` covers the valid name."""
    return matcher(pattern)(name) is not None


class PatternTree:
    """Patterns by segment, so that a thousand of them cost no more than one. They are valid, and do not change."""

    __slots__ = ("_root",)

    def __init__(self, patterns: Iterable[str]) -> None:
        self._root: dict[str, Any] = {}
        for number, pattern in enumerate(patterns):
            node = self._root
            for segment in pattern.split("."):
                node = node.setdefault(segment, {})
            node.setdefault(_END, number)

    def find(self, name: str) -> Iterator[int]:
        """The numbers of the patterns that cover a valid name, in no order; the first one of equal patterns."""
        nodes = [self._root]
        for segment in name.split("."):
            following: list[dict[str, Any]] = []
            for node in nodes:
                if REST in node:
                    yield node[REST][_END]
                following += (node[key] for key in (segment, ONE_SEGMENT) if key in node)
            nodes = following
        yield from (node[_END] for node in nodes if _END in node)


def overlap(one: str, other: str) -> bool:
    """True if there can be a name that both patterns cover."""
    first, second = one.split("."), other.split(".")
    for mine, theirs in zip(first, second, strict=False):
        if REST in (mine, theirs):
            return True
        if mine != theirs and ONE_SEGMENT not in (mine, theirs):
            return False
    return len(first) == len(second)
