"""Times of messages of another journal: ends are kept to the millisecond, and times never decrease."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.core.clock import spell
from pubsub.journals.redis.moments import Moments, seconds_of

NOW = 1_790_000_000.0
messages = st.tuples(st.floats(-5, 5), st.floats(0, 0.5), st.floats(0.001, 1) | st.none())


@given(st.lists(messages, max_size=20), st.sampled_from([0.0, 0.5, 10.0, 1e6]))
def test_ends_are_kept(sent: list[tuple[float, float, float | None]], ttl: float) -> None:
    """``sent``: a step of the clock, the delay up to the writing, and a share of the TTL as the message's own."""
    moments, now, last = Moments(ttl), NOW, 0.0
    for step, delay, share in sent:
        now += step
        expires = inf
        if ttl or share is not None:
            expires = round(now + delay + (ttl or 100) * (1 if share is None else share), 3)
        moment = moments.of(spell(int(now)), expires)
        assert moment.at >= last
        last = moment.at
        if expires == inf:
            assert (moment.lifetime, moment.is_odd) == (0, False)
            continue
        end = moment.at + (moment.lifetime or ttl)
        assert end == pytest.approx(max(expires, moment.at + 0.001), abs=0.0006)
        assert round(end, 3) == expires or expires < moment.at + 0.001
        assert not ttl or moment.at + ttl >= end - 0.001, "the TTL of the topic would end it before"
        assert moment.is_odd == (moment.lifetime < ttl or not ttl)


def test_a_time_stamp_that_is_none_is_the_oldest() -> None:
    assert [seconds_of("2026-01-01T00:00:00Z"), seconds_of("yesterday"), seconds_of("")] == [1767225600.0, 0.0, 0.0]
