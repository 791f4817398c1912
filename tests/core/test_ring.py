"""The ring of a topic's newest events, compared with a simple list after any additions and removals."""

from __future__ import annotations

from math import inf

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pubsub.core.event import StoredEvent
from pubsub.core.ring import Ring

# Add a number of events with a time of expiry, or remove expired events: at most this number, up to this time.
ADD = st.tuples(st.just("add"), st.integers(1, 12), st.sampled_from([1.0, 2.0, 3.0, inf]))
EXPIRE = st.tuples(st.just("expire"), st.integers(1, 5), st.sampled_from([1.0, 2.0, 3.0]))


@given(capacity=st.integers(0, 7), first=st.integers(1, 20), steps=st.lists(st.one_of(ADD, EXPIRE), max_size=12))
def test_it_holds_what_a_list_would_hold(capacity: int, first: int, steps: list[tuple[str, int, float]]) -> None:
    ring, model, seq = Ring(capacity), list[StoredEvent](), first
    for step, count, moment in steps:
        if step == "add":
            for _ in range(count):
                event = StoredEvent(seq, b"", moment)
                ring.append(event)
                model = [*model, event][-capacity:] if capacity else []
                seq += 1
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


@pytest.mark.parametrize("capacity", [0, 3])
def test_an_empty_ring(capacity: int) -> None:
    ring = Ring(capacity)
    assert (len(ring), ring.oldest, ring.after(0, 10)) == (0, 1, [])
    ring.remove_expired(1.0, 10)
    assert len(ring) == 0
