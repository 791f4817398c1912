"""Names of topics, patterns, and the names that a pattern covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.patterns import PatternTree, check_pattern, check_topic, covers, has_wildcard, is_pattern, overlap


@pytest.mark.parametrize("name", ["a", "orders", "orders.eu-1", "A_b:c~9.x", "x" * 255, "-", "1.2.3"])
def test_takes_topic_names(name: str) -> None:
    check_topic(name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 256, ".", "a.", ".a", "a..b", "a b", "a/b", "ä", "a\n", "a\0", "*", "a.*", ">", "a.>", "\uff41", "a,b"],
)
def test_refuses_topic_names(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_topic(name)
    assert str(caught.value).startswith("topic: expected 1 to 255")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "a.>", "*.a", "*.*.>", "a.*.c", "a", "*." * 127 + "*"])
def test_takes_patterns(pattern: str) -> None:
    check_pattern(pattern)
    assert is_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["", "a*", "*a", "a.>.b", ">.a", ">>", "a..*", ".*", "*.", "a.>b", "a b.*", "*\n", "ä.*", "*." * 127 + "ab"],
)
def test_refuses_patterns(pattern: str) -> None:
    assert not is_pattern(pattern)
    with pytest.raises(BadRequest, match="expected a pattern"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "covered", "others"),
    [
        ("orders.*", ["orders.eu", "orders.~"], ["orders", "orders.eu.fr", "order.eu", "xorders.eu"]),
        ("orders.>", ["orders.eu", "orders.eu.fr"], ["orders", "ordersx.eu"]),
        (">", ["a", "a.b.c"], []),
        ("*", ["a"], ["a.b"]),
        ("*.eu.*", ["a.eu.b"], ["eu.b", "a.eu", "a.eu.b.c"]),
        ("orders.eu", ["orders.eu"], ["orders.eux", "orders-eu"]),
    ],
)
def test_a_pattern_covers_names(pattern: str, covered: list[str], others: list[str]) -> None:
    assert [name for name in covered + others if covers(pattern, name)] == covered


segments = st.sampled_from(["a", "b"])
names = st.lists(segments, min_size=1, max_size=4).map(".".join)
patterns = st.builds(
    lambda parts, rest: ".".join([*parts, ">"] if rest or not parts else parts),
    st.lists(segments | st.just("*"), max_size=3),
    st.booleans(),
)


@given(patterns, patterns, names)
def test_patterns_that_cover_the_same_name_overlap(one: str, other: str, name: str) -> None:
    if covers(one, name) and covers(other, name):
        assert overlap(one, other)
        assert overlap(other, one)


@given(st.lists(patterns, max_size=8), names)
def test_a_tree_finds_the_patterns_that_cover_a_name(listed: list[str], name: str) -> None:
    expected = {listed.index(pattern) for pattern in listed if covers(pattern, name)}
    assert set(PatternTree(listed).find(name)) == expected


def all_names(length: int) -> list[str]:
    return ["a", "b", "c"] if length == 1 else [f"{name}.{end}" for name in all_names(length - 1) for end in "abc"]


NAMES = [name for length in (1, 2, 3, 4) for name in all_names(length)]


@given(patterns, patterns)
def test_patterns_that_overlap_cover_a_common_name(one: str, other: str) -> None:
    common = [name for name in NAMES if covers(one, name) and covers(other, name)]
    assert overlap(one, other) == bool(common)


@pytest.mark.parametrize(("text", "expected"), [("orders.*", True), (">", True), ("or*", True), ("orders", False)])
def test_tells_patterns_from_names(text: str, expected: bool) -> None:
    assert has_wildcard(text) is expected
