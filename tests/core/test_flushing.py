"""Deliveries at the end of a tick, and the measurement of some of them."""

from __future__ import annotations

import pytest

from tests.core.test_broker import Client, Ticks, make_broker
from tests.core.test_counts import Reader
from tests.doubles import join


def test_a_tick_is_measured_only_if_it_was_asked_for() -> None:
    moments = iter([10.0, 10.002])
    broker, ticks = make_broker()
    broker.flushes._now = lambda: next(moments)
    broker.create_topic("a")
    reader = Reader(broker)
    join(broker, "a", reader.outbox).advance()
    publisher = Client(broker, "c")
    publish_and_end(publisher, ticks)
    broker.flushes.measure_next()
    assert sum(broker.flushes.latency.counts) == 0
    publish_and_end(publisher, ticks)
    publish_and_end(publisher, ticks)
    assert sum(broker.flushes.latency.counts) == 1
    assert broker.flushes.latency.sum == pytest.approx(0.002)
    assert len(reader.written) == 3


def publish_and_end(publisher: Client, ticks: Ticks) -> None:
    publisher.publish("a", 1)
    ticks.end()
