"""Sorted names: they hold what a sorted list of all would hold."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from pubsub.core import names
from pubsub.core.names import SortedNames

short = strategies.text("ab.", max_size=4)


def listed(sorted_names: SortedNames) -> list[str]:
    return sorted_names.starting_at("", 1_000_000)


@hypothesis.given(strategies.lists(short), short, strategies.integers(0, 12))
def test_they_are_what_a_sorted_list_is(changes: list[str], first: str, limit: int) -> None:
    """A name that comes again is removed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(names, "PIECE", 3)
        found, expected = SortedNames(), set[str]()
        for name in changes:
            (found.remove if name in expected else found.add)(name)
            expected ^= {name}
        assert listed(found) == sorted(expected)
        assert found.starting_at(first, limit) == [name for name in sorted(expected) if name >= first][:limit]


def test_many_names_come_and_go() -> None:
    found = SortedNames()
    spelled = [f"room.{number * 7919 % 10_000}" for number in range(10_000)]
    for name in spelled:
        found.add(name)
    assert listed(found) == sorted(spelled)
    for name in spelled[:9_990]:
        found.remove(name)
    assert listed(found) == sorted(spelled[9_990:])
    assert found.starting_at("room.9999", 5) == [name for name in sorted(spelled[9_990:]) if name >= "room.9999"]
