"""Names and patterns, compared with the simplest implementation of the contract."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.auth.permissions import EVERYTHING, NOTHING, allows, make_rights
from pubsub.protocol.errors import BadRequest

SEGMENTS = st.lists(st.sampled_from(["a", "b", "A", "ab"]), min_size=1, max_size=4)
PATTERNS = st.builds(
    lambda segments, tail: ".".join(segments + tail),
    st.lists(st.sampled_from(["a", "b", "A", "ab", "*"]), max_size=4),
    st.sampled_from([[], [">"]]),
).filter(bool)


def matches(pattern: list[str], topic: list[str]) -> bool:
    """Match as section 5 of the contract says, word for word."""
    if not pattern:
        return not topic
    if pattern == [">"]:
        return len(topic) >= 1
    return bool(topic) and pattern[0] in ("*", topic[0]) and matches(pattern[1:], topic[1:])


@given(st.lists(PATTERNS, max_size=6), SEGMENTS)
def test_a_set_of_patterns_allows_what_one_of_them_matches(patterns: list[str], topic: list[str]) -> None:
    expected = any(matches(pattern.split("."), topic) for pattern in patterns)
    assert allows(make_rights(tuple(patterns)), ".".join(topic)) == expected


@given(st.text(max_size=20))
def test_any_text_is_refused_or_is_a_pattern(text: str) -> None:
    try:
        rights = make_rights((text,))
    except ValueError:
        return
    assert rights == text
    assert not set(text) & set(" ,\n")


# Row 25: the boundaries of wildcards.
@pytest.mark.parametrize(
    ("pattern", "topic", "allowed"),
    [
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("a.*", "A.b", False),
        ("a.*", "ab.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "aa.b", False),
        ("*", "a.b", False),
        ("*.b", "a.b", True),
        ("a", "a.b", False),
        (">", "a", True),
    ],
)
def test_row_25_boundaries_of_wildcards(pattern: str, topic: str, allowed: bool) -> None:
    assert allows(make_rights((pattern,)), topic) is allowed


@pytest.mark.parametrize("name", ["", "a.", ".a", "a..b", "a.*", "cafe\u0301", "a\n", "x" * 256, "\ud800"])
def test_row_25_what_no_topic_can_be_called_is_said_and_not_remembered(name: str) -> None:
    remembered = allows.cache_info().currsize
    for rights in (NOTHING, EVERYTHING, "a.*"):
        with pytest.raises(BadRequest, match="topic: expected"):
            allows(rights, name)
    assert allows.cache_info().currsize == remembered


@pytest.mark.parametrize(
    "wrong", ["", "a.", ".a", "a..b", "a*", "*a", "a.>.b", ">.a", "a>", "é", "a b", "a\n", "x" * 256]
)
def test_what_is_no_pattern(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected names of topics, or patterns"):
        make_rights((wrong,))


def test_too_many() -> None:
    make_rights(tuple(f"t{number}" for number in range(1000)))
    with pytest.raises(ValueError, match="expected at most 1000"):
        make_rights(tuple(f"t{number}" for number in range(1001)))


def test_nothing_and_everything() -> None:
    assert not allows(NOTHING, "a")
    assert allows(EVERYTHING, "a.b.c")
    assert make_rights(()) == NOTHING
    assert make_rights(("b", "a", "b")) == "a b"
