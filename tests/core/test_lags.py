"""The lags of a subscriber: what waits in its queue, by topic."""

from __future__ import annotations

from pubsub.core.lags import Lag, add_lags, count_lag
from tests.core.test_outbox import LIMIT, batch, stalled


def test_events_add_up_by_topic_without_those_that_were_dropped() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, LIMIT))
    wire.outbox.offer(batch("u", 1, 2))
    lags: dict[str, Lag] = {}
    add_lags(lags, wire.outbox.entries)
    assert {topic: (lag.oldest.seq, lag.queued) for topic, lag in lags.items()} == {"t": (3, LIMIT - 2), "u": (1, 2)}
    assert lags["u"].size == 2 * len(b'["u", 1]')
    wire.outbox.offer(batch("u", 3, 2 + LIMIT))
    lags = {}
    add_lags(lags, wire.outbox.entries)
    assert list(lags) == ["u"]


def test_the_events_of_one_topic_are_counted_without_those_that_were_dropped() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, LIMIT))
    wire.outbox.offer(batch("u", 1, 2))
    assert [count_lag(wire.outbox.entries, topic) for topic in ("t", "u", "v")] == [LIMIT - 2, 2, 0]
    wire.outbox.offer(batch("u", 3, 2 + LIMIT))
    assert [count_lag(wire.outbox.entries, topic) for topic in ("t", "u")] == [0, LIMIT]
