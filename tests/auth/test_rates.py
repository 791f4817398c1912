"""Rates and quotas, with a clock that the test sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.auth.rates import Rates, TokenBuckets
from pubsub.protocol.errors import Flooding, LimitExceeded, RateLimited


class Time:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Steps = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4), st.booleans()), max_size=60)


@given(Steps, st.integers(1, 50), st.integers(4, 20))
def test_a_bucket_is_a_bucket(steps: list[tuple[float, int, bool]], rate: int, burst: int) -> None:
    """Compare with a simple bucket that counts its tokens. Some steps give the tokens back at once."""
    time = Time()
    buckets = TokenBuckets(rate, burst, time)
    tokens = float(burst)
    for pause, count, unused in steps:
        time.now += pause
        tokens = min(burst, tokens + pause * rate)
        if abs(tokens - count) < 1e-3:
            continue  # the rounding of the two does not matter
        wait = buckets.take("alice", count)
        assert (wait == 0) == (tokens >= count)
        if wait:
            assert wait == pytest.approx((count - tokens) / rate, abs=1e-4)
        elif unused:
            buckets.give_back("alice", count)
        else:
            tokens -= count


def test_each_has_a_bucket_of_its_own() -> None:
    buckets = TokenBuckets(1, 1, Time())
    assert [buckets.take("a"), buckets.take("b")] == [0, 0]
    assert buckets.take("a") == pytest.approx(1, abs=1e-5)


def test_who_is_idle_is_forgotten() -> None:
    time = Time()
    buckets = TokenBuckets(1, 1, time)
    for number in range(100_000):
        time.now += 0.01
        buckets.take(str(number))
    assert len(buckets._full_at) <= 2048


def test_row_36_a_flood_is_refused_and_told_when_to_come_back() -> None:
    time = Time()
    rates = Rates(10, 5, time)
    for _ in range(5):
        rates.count("alice")
    with pytest.raises(RateLimited) as failure:
        rates.count("alice")
    assert failure.value.retry_after_ms == 100
    assert failure.value.headers == {"Retry-After": "1"}
    time.now += 0.1
    rates.count("alice")


def test_row_36_who_goes_on_is_sent_away() -> None:
    time, outcomes = Time(), []
    rates = Rates(10, 5, time)
    for _ in range(16):
        try:
            rates.count("alice")
        except RateLimited as failure:
            outcomes.append(type(failure))
    assert outcomes == [RateLimited] * 10 + [Flooding]
    rates.count("bob")


def test_who_waits_as_told_is_never_sent_away() -> None:
    time, outcomes = Time(), []
    rates = Rates(10, 5, time)
    for _ in range(1000):
        try:
            rates.count("alice")
            outcomes.append("taken")
        except RateLimited as failure:
            outcomes.append(type(failure).__name__)
            time.now += failure.retry_after_ms / 1000
    assert set(outcomes) == {"taken", "RateLimited"}
    assert outcomes.count("taken") > 400


def test_a_burst_is_a_second_unless_it_is_said() -> None:
    rates = Rates(3, 0, Time())
    for _ in range(3):
        rates.count("alice")
    with pytest.raises(RateLimited):
        rates.count("alice")
    Rates(0.1, 0, Time()).count("alice")


@pytest.mark.parametrize("burst", [1, 99, 100, 250, 1000])
def test_row_36_who_counts_in_draws_gets_its_burst_to_the_last_request(burst: int) -> None:
    rates, drawn = Rates(10, burst, Time()), 0
    for _ in range(burst):
        drawn = drawn - 1 if drawn else rates.draw("alice")
    assert not drawn
    with pytest.raises(RateLimited):
        rates.draw("alice")


def test_what_was_drawn_and_not_used_is_not_lost() -> None:
    rates = Rates(10, 1000, Time())
    for _ in range(1000):
        rates.give_back("alice", rates.draw("alice"))
    with pytest.raises(RateLimited):
        rates.draw("alice")


def test_of_who_is_forgotten_nothing_is_given_back() -> None:
    time = Time()
    rates = Rates(10, 2, time)
    rates.give_back("alice", 1000)
    for _ in range(2):
        rates.count("alice")
    with pytest.raises(RateLimited):
        rates.count("alice")


def test_a_list_counts_each_of_its_messages() -> None:
    time = Time()
    rates = Rates(10, 10, time)
    rates.count("alice")
    rates.count_list("alice", 8)
    rates.count("alice")
    rates.count_list("alice", 1)
    with pytest.raises(RateLimited) as failure:
        rates.count_list("alice", 3)
    assert failure.value.retry_after_ms == 100
    time.now += 0.1
    rates.count("alice")


def test_a_list_that_can_never_come_at_once_is_told_the_limit() -> None:
    with pytest.raises(LimitExceeded, match="the rate allows lists of at most 10 messages, got 11"):
        Rates(10, 10, Time()).count_list("alice", 11)
