"""Rules for topics: the first one that covers a name counts, and gives the defaults of the options."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pubsub.core.topic_rules import NO_RULE, TopicRules
from pubsub.protocol.answers import TopicRule
from pubsub.protocol.patterns import covers
from pubsub.protocol.requests import TopicOptions


def rules_for(*patterns: str) -> TopicRules:
    return TopicRules([TopicRule(pattern=pattern) for pattern in patterns])


@pytest.mark.parametrize(
    ("patterns", "name", "found"),
    [
        ((), "a", ""),
        (("room.*",), "room.1", "room.*"),
        (("room.*",), "room", ""),
        (("room.*",), "room.1.chat", ""),
        (("room.>",), "room.1.chat", "room.>"),
        (("room.>",), "room", ""),
        (("*",), "a", "*"),
        ((">",), "a.b.c", ">"),
        (("room.vip", "room.*"), "room.vip", "room.vip"),
        (("room.*", "room.vip"), "room.vip", "room.*"),
        ((">", "room.*", "room.vip"), "room.vip", ">"),
        (("*.vip", "room.*"), "room.vip", "*.vip"),
        (("room.*", "*.vip"), "room.vip", "room.*"),
        (("a.b.c", "a.>"), "a.b.d", "a.>"),
    ],
)
def test_the_first_rule_that_covers_a_name_counts(patterns: tuple[str, ...], name: str, found: str) -> None:
    assert rules_for(*patterns).find(name).pattern == found


segments = st.sampled_from(["a", "b"])
names = st.lists(segments, min_size=1, max_size=3).map(".".join)
patterns = st.builds(
    lambda inner, end: ".".join([*inner, end]),
    st.lists(segments | st.just("*"), max_size=2),
    segments | st.sampled_from(["*", ">"]),
)


@given(st.lists(patterns, max_size=8), names)
def test_the_tree_finds_what_a_search_in_order_finds(chosen: list[str], name: str) -> None:
    wanted = next((pattern for pattern in chosen if covers(pattern, name)), NO_RULE.pattern)
    assert rules_for(*chosen).find(name).pattern == wanted


@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        ({}, {"history": 50, "durable": True}),
        ({"history": 7}, {"history": 7, "durable": True}),
        ({"history": None}, {"history": None, "durable": True}),
        ({"durable": False}, {"history": 50, "durable": False}),
        ({"ttl_sec": 3.0}, {"history": 50, "durable": True, "ttl_sec": 3.0}),
    ],
)
def test_a_chosen_option_wins_over_that_of_the_rule(chosen: dict[str, object], options: dict[str, Any]) -> None:
    rules = TopicRules([TopicRule(pattern="room.*", options={"history": 50, "durable": True})])
    assert rules.options_of("room.1", chosen) == TopicOptions(**options)
    assert rules.options_of("other.1", chosen) == TopicOptions(**chosen)  # type: ignore[arg-type]
