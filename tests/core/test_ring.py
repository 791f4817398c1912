"""The ring of a topic's newest events, compared with a simple list after any additions and removals."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pubsub.core.event import StoredEvent
from pubsub.core.ring import RELEASED_AT_ONCE, Ring, release

# Add a number of events with a time of expiry, or remove expired events: at most this number, up to this time.
ADD = st.tuples(st.just("add"), st.integers(1, 12), st.sampled_from([1.0, 2.0, 3.0, inf]))
CLEAR = st.tuples(st.just("clear"), st.just(0), st.just(0.0))
EXPIRE = st.tuples(st.just("expire"), st.integers(1, 5), st.sampled_from([1.0, 2.0, 3.0]))


@given(capacity=st.integers(0, 7), first=st.integers(1, 20), steps=st.lists(st.one_of(ADD, EXPIRE, CLEAR), max_size=12))
def test_it_holds_what_a_list_would_hold(capacity: int, first: int, steps: list[tuple[str, int, float]]) -> None:
    ring, model, seq = Ring(capacity), list[StoredEvent](), first
    for step, count, moment in steps:
        if step == "add":
            for _ in range(count):
                event = StoredEvent(seq, b"", moment)
                ring.append(event)
                model = [*model, event][-capacity:] if capacity else []
                seq += 1
        elif step == "clear":
            assert {event.seq for event in ring.clear() if event is not None} >= {event.seq for event in model}
            model = []
        else:
            ring.remove_expired(moment, count)
            for _ in range(count):
                if model and model[0].expires <= moment:
                    model.pop(0)
        assert len(ring) == len(model)
        assert ring.oldest == (model[0].seq if model else ring.newest + 1)
        for after in range(first - 2, seq + 2):
            for limit in (0, 1, 3, 100):
                assert ring.after(after, limit) == [event for event in model if event.seq > after][:limit]


def test_what_has_expired_is_let_go_of() -> None:
    ring = Ring(10)
    for seq in range(1, 6):
        ring.append(StoredEvent(seq, b"", expires=1.0))
    ring.remove_expired(1.0, 100)
    assert ring.slots == [None] * 5


def test_the_memory_of_a_long_ring_is_freed_in_turns_and_unexpired_events_are_counted() -> None:
    count = 2 * RELEASED_AT_ONCE + 10
    ring = Ring(count + 5)
    for seq in range(1, count + 1):
        ring.append(StoredEvent(seq, b"", expires=inf if seq % 2 else 1.0))
    ring.remove_expired(0.5, 10)
    slots, turns, counted = ring.clear(), list[Callable[[], None]](), list[int]()
    assert (len(ring), ring.oldest, ring.after(0, 10)) == (0, count + 1, [])
    release(slots, 1.0, turns.append, counted.append)
    assert len(slots) == count - RELEASED_AT_ONCE
    while turns:
        turns.pop()()
    assert (slots, counted) == ([], [count // 2])


@pytest.mark.parametrize("capacity", [0, 3])
def test_an_empty_ring(capacity: int) -> None:
    ring = Ring(capacity)
    assert (len(ring), ring.oldest, ring.after(0, 10)) == (0, 1, [])
    ring.remove_expired(1.0, 10)
    assert len(ring) == 0
