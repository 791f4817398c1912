"""The pace of requests, with a server that counts as the real one does."""

from __future__ import annotations

import pytest

from pubsub.auth.rates import Rates
from pubsub.client.pacing import FIRST_WINDOW, Pacing
from pubsub.protocol.errors import Flooding, RateLimited

ROUND_TRIP = 0.02


def test_each_answer_lets_one_more_in() -> None:
    pacing = Pacing()
    assert pacing.delay(FIRST_WINDOW - 1, 0) == 0
    assert pacing.delay(FIRST_WINDOW, 0) == float("inf")
    pacing.answered()
    assert pacing.delay(FIRST_WINDOW, 0) == 0


def test_a_refusal_means_one_at_a_time_after_a_pause() -> None:
    pacing = Pacing()
    pacing.refused(500, now=10)
    assert pacing.delay(0, 10) == 0.5
    assert pacing.delay(0, 10.5) == 0
    assert pacing.delay(1, 10.5) == float("inf")


def test_a_later_connection_knows_the_rate() -> None:
    pacing = Pacing()
    for _ in range(100):
        pacing.answered()
    pacing.refused(500, now=10)
    pacing.begin()
    assert pacing.delay(0, 10) == 0.5
    for _ in range(100):
        pacing.answered()
    pacing.begin()
    assert pacing.delay(FIRST_WINDOW, 20) == float("inf")


@pytest.mark.parametrize(("rate", "burst"), [(1, 1), (5, 10), (100, 100), (1000, 20)])
def test_no_rate_ends_in_a_flood_and_most_of_it_is_used(rate: float, burst: float) -> None:
    """A client with much to send, and a server that answers each request after half a round trip."""
    now = 0.0
    rates = Rates(rate, burst, lambda: now)
    pacing = Pacing()
    coming: list[tuple[float, float | None]] = []  # answers on their way: when they come, and the time to wait
    accepted = 0
    while now < 30:
        for answer in [each for each in coming if each[0] <= now]:
            coming.remove(answer)
            if answer[1] is None:
                pacing.answered()
            else:
                pacing.refused(answer[1], now)
        while not pacing.delay(len(coming), now):
            pacing.sent(now)
            try:
                rates.count("client")
            except Flooding:
                pytest.fail(f"closed after {now} s")
            except RateLimited as refusal:
                coming.append((now + ROUND_TRIP, refusal.retry_after_ms))
            else:
                accepted += 1
                coming.append((now + ROUND_TRIP, None))
        now += 0.001
    assert accepted >= 0.5 * min(rate * 30 + burst, 30 / ROUND_TRIP)
