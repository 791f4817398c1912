"""The queue of a subscriber with a blocked socket: events that are kept, events that are dropped, reported gaps."""

from __future__ import annotations

import functools
import json
from typing import Any

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.event import BATCH_BYTES, WEBSOCKET_TEXT, Batch, StoredEvent, make_batch
from pubsub.core.lane import Subscriber
from pubsub.core.losses import Loss
from pubsub.core.topic import Topic
from pubsub.protocol.requests import TopicOptions
from tests.doubles import NoLog, Sink
from tests.harness import messages_in

LIMIT = 5


class Wire:
    """A record of all writes; after ``room`` writes it blocks the outbox, as a full socket does."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.room: int | None = None
        self.outbox = Subscriber(Sink(self.write), OutboxOptions(LIMIT, Clock(lambda: 0)))

    def write(self, frames: bytes) -> None:
        self.told += messages_in(frames)
        if self.room is not None:
            self.room -= 1
            if self.room == 0:
                self.outbox.block()

    def take(self) -> list[Any]:
        told, self.told = self.told, []
        return [summary(message) for message in told]


def summary(message: Any) -> Any:
    if isinstance(message, dict):
        return (message["topic"], message["count"], message["from_seq"], message["to_seq"])
    return message


@functools.cache
def topic_named(name: str) -> Topic:
    return Topic(name, "e", TopicOptions(history=0), NoLog(), ring_size=0)


def stored(topic: str, first: int, last: int) -> list[StoredEvent]:
    return [StoredEvent(seq, json.dumps([topic, seq]).encode()) for seq in range(first, last + 1)]


def batch(topic: str, first: int, last: int) -> Batch:
    kept = stored(topic, first, last)
    return make_batch(topic_named(topic), kept, WEBSOCKET_TEXT.events(topic_named(topic), kept))


def replay(wire: Wire, topic: str, kept: list[StoredEvent], *, after: int | None = None, until: int = 0) -> None:
    wire.outbox.replay(topic_named(topic), kept, after=after, until=until)


def events(topic: str, first: int, last: int) -> list[Any]:
    return [[topic, seq] for seq in range(first, last + 1)]


def stalled() -> Wire:
    wire = Wire()
    wire.outbox.block()
    return wire


def test_keeps_the_newest_and_tells_the_gap_before_them() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, 3))
    assert not wire.outbox.full
    wire.outbox.offer(batch("t", 4, 9))
    assert wire.outbox.full
    assert wire.outbox.queued == LIMIT
    assert wire.told == []
    wire.outbox.unblock()
    assert wire.take() == [("t", 4, 1, 4), *events("t", 5, 9)]
    assert wire.outbox.dropped == 4
    assert not wire.outbox.lagging


def test_tells_each_gap_once() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, 7))
    wire.outbox.unblock()
    assert wire.take() == [("t", 2, 1, 2), *events("t", 3, 7)]
    wire.outbox.block()
    wire.outbox.offer(batch("t", 8, 8))
    wire.outbox.unblock()
    assert wire.take() == events("t", 8, 8)
    wire.outbox.block()
    wire.outbox.offer(batch("t", 9, 20))
    wire.outbox.unblock()
    assert wire.take() == [("t", 7, 9, 15), *events("t", 16, 20)]


def test_gaps_of_several_topics_are_told_apart() -> None:
    wire = stalled()
    wire.outbox.offer(batch("a", 1, 4))
    wire.outbox.offer(batch("b", 1, 4))
    wire.outbox.offer(batch("a", 5, 5))
    wire.outbox.unblock()
    assert wire.take() == [*events("b", 1, 4), ("a", 4, 1, 4), *events("a", 5, 5)]


def test_a_gap_with_nothing_behind_it_is_told_too() -> None:
    wire = stalled()
    wire.outbox.offer(batch("a", 1, 2))
    wire.outbox.offer(batch("b", 1, 5))
    wire.outbox.unblock()
    assert wire.take() == [*events("b", 1, 5), ("a", 2, 1, 2)]


def test_a_socket_that_blocks_again_leaves_the_rest_waiting() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, 2))
    wire.outbox.offer(batch("t", 3, 4))
    wire.room = 1
    wire.outbox.unblock()
    assert wire.take() == events("t", 1, 2)
    assert wire.outbox.lagging
    wire.outbox.offer(batch("t", 5, 9))
    wire.room = None
    wire.outbox.unblock()
    assert wire.take() == [("t", 2, 3, 4), *events("t", 5, 9)]


def test_a_gap_told_just_before_the_socket_blocks_is_not_told_again() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, 7))
    wire.room = 1
    wire.outbox.unblock()
    wire.room = None
    wire.outbox.unblock()
    assert wire.take() == [("t", 2, 1, 2), *events("t", 3, 7)]


def test_events_dropped_between_a_told_gap_and_what_follows_are_a_gap_of_their_own() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, 6))
    wire.outbox.offer(batch("t", 7, 7))
    wire.room = 1  # it writes the gap 1 to 2 together with the events after it
    wire.outbox.unblock()
    wire.outbox.offer(batch("t", 8, 13))
    wire.room = None
    wire.outbox.unblock()
    told = wire.take()
    assert told[0] == ("t", 2, 1, 2)
    assert seqs_and_gaps(told) == list(range(1, 14))


def seqs_and_gaps(told: list[Any]) -> list[int]:
    """Return every ``seq`` that the subscriber got or has lost, in the order of the messages."""
    known: list[int] = []
    for entry in told:
        known += range(entry[2], entry[3] + 1) if len(entry) == 4 else [entry[1]]
    return known


def test_notices_are_never_dropped_and_keep_their_place() -> None:
    wire = stalled()
    notice = b'["notice", "a"]'
    wire.outbox.offer(batch("a", 1, 2))
    wire.outbox.notify(topic_named("a"), notice)
    wire.outbox.offer(batch("b", 1, 9))
    wire.outbox.unblock()
    assert wire.take() == [("a", 2, 1, 2), ["notice", "a"], ("b", 4, 1, 4), *events("b", 5, 9)]


def test_notices_keep_their_order_when_what_is_behind_them_is_dropped() -> None:
    wire = stalled()
    for topic in ("a", "b"):
        wire.outbox.notify(topic_named(topic), json.dumps(["notice", topic]).encode())
    for last in (7, 14):
        wire.outbox.offer(batch("c", last - 6, last))
    wire.outbox.unblock()
    assert wire.take() == [["notice", "a"], ["notice", "b"], ("c", 9, 1, 9), *events("c", 10, 14)]


def test_a_notice_goes_out_at_once_when_nothing_waits() -> None:
    wire = Wire()
    wire.outbox.notify(topic_named("a"), b'["notice", "a"]')
    assert wire.take() == [["notice", "a"]]


def test_a_replay_longer_than_the_queue_is_sent_whole() -> None:
    wire = Wire()
    wire.room = 1
    text = "x" * (BATCH_BYTES // 5)
    large = [StoredEvent(seq, json.dumps(["t", seq, text]).encode()) for seq in range(1, 21)]
    replay(wire, "t", large)
    wire.outbox.offer(batch("t", 21, 21 + LIMIT - 1))
    assert 1 <= len(wire.told) < 20
    wire.room = None
    wire.outbox.unblock()
    assert [event[:2] for event in wire.take()] == events("t", 1, 25)


def test_the_room_for_a_replay_goes_with_it() -> None:
    wire = stalled()
    replay(wire, "t", stored("t", 1, 20))
    wire.outbox.unblock()
    wire.outbox.block()
    wire.outbox.offer(batch("t", 21, 40))
    assert wire.outbox.queued == LIMIT


def test_a_replay_makes_room_for_itself_alone() -> None:
    wire = stalled()
    replay(wire, "t", stored("t", 1, 20))
    wire.outbox.offer(batch("t", 21, 120))
    assert wire.outbox.queued == 20 + LIMIT
    wire.outbox.unblock()
    assert wire.take() == [("t", 95, 1, 95), *events("t", 96, 120)]


def test_clear_forgets_queue_and_gaps() -> None:
    wire = stalled()
    wire.outbox.offer(batch("t", 1, 9))
    wire.outbox.clear(Loss.DISCONNECTED)
    wire.outbox.unblock()
    assert wire.take() == []
    assert wire.outbox.queued == 0
