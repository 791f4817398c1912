"""The index of patterns, against a scan of all of them."""

from __future__ import annotations

import tracemalloc

import hypothesis.strategies as st
from hypothesis import given

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.lane import Subscriber
from pubsub.core.pattern_index import Node, PatternIndex
from pubsub.core.subscription import Subscription
from pubsub.protocol.patterns import covers
from tests.doubles import Sink

segments = st.sampled_from(["a", "b", "*"])
patterns = st.builds(
    lambda parts, rest: ".".join([*parts, ">"] if rest else parts),
    st.lists(segments, min_size=1, max_size=4),
    st.booleans(),
) | st.just(">")
names = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map(".".join)

OUTBOX = OutboxOptions(1, Clock(lambda: 0))
SUBSCRIBERS = [Subscriber(Sink(lambda frames: None), OUTBOX) for _ in range(3)]
subscriptions = st.lists(st.tuples(st.sampled_from(SUBSCRIBERS), patterns), max_size=20, unique=True)


@given(subscriptions, subscriptions, st.lists(names, min_size=1, max_size=5))
def test_a_name_finds_what_a_scan_finds(
    added: list[tuple[Subscriber, str]], removed: list[tuple[Subscriber, str]], wanted: list[str]
) -> None:
    index = PatternIndex()
    for subscriber, pattern in added:
        index.add(subscriber, Subscription(pattern))
    for subscriber, pattern in removed:
        if (subscriber, pattern) in added:
            index.remove(subscriber, pattern)
    left = set(added) - set(removed)
    for name in wanted:
        found = index.find(name)
        assert all(found), "no empty entries"
        pairs = [(each, subscription.name) for entry in found for each, subscription in entry.items()]
        assert len(pairs) == len(set(pairs))
        assert set(pairs) == {(each, pattern) for each, pattern in left if covers(pattern, name)}
    check_nodes(index._root)
    for subscriber, pattern in left:
        index.remove(subscriber, pattern)
    assert index.is_empty


def check_nodes(node: Node) -> None:
    """Check that no node could be left out."""
    for first, child in (node.children or {}).items():
        assert child.label.split(".")[0] == first
        assert child.is_subscribed or len(child.children or ()) > 1
        check_nodes(child)


def test_a_long_pattern_takes_little_memory_whatever_it_shares_with_others() -> None:
    index = PatternIndex()
    tracemalloc.start()
    for number in range(500):
        for last in ("*", ">"):
            index.add(SUBSCRIBERS[0], Subscription(".".join([f"{number:03}", *["x"] * 123, last])))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 1000 < 2500


def test_a_subscription_replaces_the_one_of_the_same_subscriber_to_the_same_pattern() -> None:
    index = PatternIndex()
    first, second = Subscription("a.*"), Subscription("a.*")
    index.add(SUBSCRIBERS[0], first)
    index.add(SUBSCRIBERS[1], first)
    index.add(SUBSCRIBERS[0], second)
    (found,) = index.find("a.b")
    assert found[SUBSCRIBERS[0]] is second
    assert found[SUBSCRIBERS[1]] is first
