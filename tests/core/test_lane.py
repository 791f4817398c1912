"""Lanes: one write for each batch and ready subscriber, and an entry in the queue of each subscriber that lags."""

from __future__ import annotations

from pubsub.core.counts import MessageCount
from pubsub.core.event import WEBSOCKET_TEXT
from pubsub.core.lane import Lane
from pubsub.core.trail import Since
from tests.core.test_outbox import Wire, events, stalled, stored, topic_named


def test_lanes_write_to_who_is_ready_and_queue_for_who_lags() -> None:
    lane = Lane(topic_named("t"), WEBSOCKET_TEXT, MessageCount())
    ready, lagging = Wire(), stalled()
    for wire in (ready, lagging):
        wire.outbox.lanes["t"] = lane
        lane.join(wire.outbox, Since(0))
        lane.join(wire.outbox, Since(0))
    assert lane.size == 2
    lane.deliver(stored("t", 1, 2))
    assert ready.take() == events("t", 1, 2)
    assert lagging.take() == []
    lagging.outbox.unblock()
    lane.deliver(stored("t", 3, 3))
    assert ready.take() == events("t", 3, 3)
    assert lagging.take() == events("t", 1, 3)
    lane.leave(lagging.outbox)
    lane.deliver(stored("t", 4, 4))
    assert lagging.take() == []
    assert lane.size == 1


def test_who_blocks_at_a_batch_does_not_get_it_twice() -> None:
    lane = Lane(topic_named("t"), WEBSOCKET_TEXT, MessageCount())
    wire = Wire()
    wire.outbox.lanes["t"] = lane
    lane.join(wire.outbox, Since(0))
    wire.room = 1
    lane.deliver(stored("t", 1, 1))
    lane.deliver(stored("t", 2, 2))
    assert wire.take() == events("t", 1, 1)
    wire.room = None
    wire.outbox.unblock()
    assert wire.take() == events("t", 2, 2)
