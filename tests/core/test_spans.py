"""Spans of a catch-up, against a table of the subscriptions that want each event."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from pubsub.core.spans import Span, extend, forget, overlay
from pubsub.core.subscription import Subscription

NEW = Subscription("new")
wanted = st.lists(st.sampled_from(["a", "b", "c"]).map(Subscription), unique=True)
untils = st.lists(st.integers(1, 20), unique=True, min_size=1).map(sorted)


def table(spans: list[Span], after: int) -> dict[int, set[str]]:
    """The names of the subscriptions that want each event after ``after``."""
    found = {}
    for span in spans:
        for seq in range(after + 1, span.until + 1):
            found[seq] = {each.name for each in span.wanted}
        after = max(after, span.until)
    return found


@given(st.data(), untils, st.integers(0, 20), st.integers(0, 20))
def test_a_subscription_wants_all_after_its_start_and_the_others_what_they_did(
    data: st.DataObject, ends: list[int], after: int, start: int
) -> None:
    spans = [Span(until, data.draw(wanted)) for until in ends]
    newest = max(ends[-1], after, start)
    extend(spans, newest, data.draw(wanted))
    before = table(spans, after)
    found = table(overlay(spans, after, start, NEW), min(after, start))
    assert set(found) == set(range(min(after, start) + 1, newest + 1))
    for seq, names in found.items():
        assert names == before.get(seq, set()) | ({"new"} if seq > start else set())


def test_a_subscription_that_ends_is_in_no_span_and_the_others_stay() -> None:
    spans = [Span(1, [Subscription("a"), NEW]), Span(2, [NEW])]
    forget(spans, "new")
    assert table(spans, 0) == {1: {"a"}, 2: set()}


def test_what_follows_the_last_span_is_added_once() -> None:
    spans: list[Span] = []
    extend(spans, 2, [NEW])
    extend(spans, 2, [])
    extend(spans, 3, [])
    assert table(spans, 0) == {1: {"new"}, 2: {"new"}, 3: set()}
