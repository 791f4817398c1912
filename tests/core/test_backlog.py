"""The backlog of a lagging subscriber: events dropped by the policy of each topic, and events that expire in it."""

from __future__ import annotations

import json
import sys
from math import inf
from typing import Any

import pytest

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.event import WEBSOCKET_TEXT, Batch, StoredEvent, make_batch
from pubsub.core.lane import Subscriber
from pubsub.core.topic import Topic
from pubsub.protocol.requests import Overflow, TopicOptions
from tests.core.test_outbox import summary
from tests.doubles import NoLog, Sink
from tests.harness import messages_in

LIMIT = 5


class Lagging:
    """A subscriber whose socket is blocked until :meth:`take`. Its clock shows ``now``."""

    def __init__(self) -> None:
        self.now = 0.0
        self._told: list[Any] = []
        self.outbox = Subscriber(Sink(self._write), OutboxOptions(LIMIT, Clock(lambda: 0, lambda: self.now)))
        self.outbox.block()

    def _write(self, frames: bytes) -> None:
        self._told += map(summary, messages_in(frames))

    def take(self) -> list[Any]:
        """Unblock the socket for a moment; return everything that the subscriber gets."""
        self.outbox.unblock()
        self.outbox.block()
        told, self._told = self._told, []
        return told


def topic(overflow: Overflow, name: str = "t") -> Topic:
    options = TopicOptions(history=0, overflow=overflow)
    return Topic(name, "e", options, NoLog(), ring_size=0)


def batch(of: Topic, first: int, last: int, expires: float = inf) -> Batch:
    kept = [StoredEvent(n, json.dumps([of.name, n]).encode(), expires) for n in range(first, last + 1)]
    return make_batch(of, kept, WEBSOCKET_TEXT.events(of, kept))


def events(first: int, last: int, name: str = "t") -> list[Any]:
    return [[name, seq] for seq in range(first, last + 1)]


def test_row_32_the_gap_of_latest_comes_behind_a_replay_that_waits() -> None:
    client, of = Lagging(), topic("latest")
    client.outbox.replay(of, batch(of, 1, 2).events, after=0, until=2)
    for seq in (3, 4, 6):
        client.outbox.offer(batch(of, seq, seq))
    assert client.take() == [*events(1, 2), ("t", 2, 3, 5), *events(6, 6)]


def test_row_32_drop_newest_keeps_what_waits_and_tells_the_gap_behind_it() -> None:
    client, of = Lagging(), topic("drop_newest")
    client.outbox.offer(batch(of, 1, 3))
    client.outbox.offer(batch(of, 4, 9))
    client.outbox.offer(batch(of, 10, 12))
    assert client.outbox.queued == LIMIT
    assert client.outbox.full
    assert client.outbox.dropped == 7
    assert client.take() == [*events(1, 5), ("t", 7, 6, 12)]
    client.outbox.offer(batch(of, 13, 14))
    assert client.take() == events(13, 14)


def test_drop_newest_tells_each_gap_where_it_is() -> None:
    client, of, other = Lagging(), topic("drop_newest"), topic("drop_newest", "o")
    client.outbox.offer(batch(of, 1, 6))
    client.outbox.offer(batch(other, 1, 1))
    client.outbox.offer(batch(of, 7, 8))
    assert client.take() == [*events(1, 5), ("t", 3, 6, 8), ("o", 1, 1, 1)]


def test_row_32_latest_holds_the_newest_alone_and_never_fills_the_queue() -> None:
    client, of = Lagging(), topic("latest")
    for last in (3, 4, 9):
        client.outbox.offer(batch(of, {3: 1, 4: 4, 9: 5}[last], last))
    assert client.outbox.queued == 1
    assert not client.outbox.full
    assert client.outbox.dropped == 8
    assert client.take() == [("t", 8, 1, 8), ["t", 9]]
    client.outbox.offer(batch(of, 10, 10))
    assert client.take() == [["t", 10]]


def test_row_32_disconnect_does_so_at_the_first_overflow() -> None:
    client, of = Lagging(), topic("disconnect")
    client.outbox.offer(batch(of, 1, 5))
    assert not client.outbox.overflowed
    client.outbox.offer(batch(of, 6, 6))
    assert client.outbox.overflowed
    assert client.take() == [], "an event now would hide that others are missing"
    assert client.outbox.overflowed


@pytest.mark.parametrize("patient", ["drop_newest", "disconnect"])
def test_a_queue_of_several_policies_drops_only_where_that_is_allowed(patient: Overflow) -> None:
    client, impatient, of = Lagging(), topic("drop_oldest", "o"), topic(patient)
    client.outbox.offer(batch(of, 1, 3))
    client.outbox.offer(batch(impatient, 1, 4))
    client.outbox.offer(batch(impatient, 5, 6))
    assert client.take() == [*events(1, 3), ("o", 4, 1, 4), *events(5, 6, "o")]


def test_what_expires_in_the_queue_is_not_delivered_and_is_told_with_what_was_dropped() -> None:
    client, of = Lagging(), topic("drop_oldest")
    of.expiring = True
    client.outbox.offer(batch(of, 1, 2, expires=10))
    client.outbox.offer(batch(of, 3, 3, expires=30))
    client.outbox.offer(batch(of, 4, 5, expires=20))
    client.outbox.offer(batch(of, 6, 6))
    client.now = 20
    assert client.take() == [("t", 2, 1, 2), ["t", 3], ("t", 2, 4, 5), ["t", 6]]


def test_a_queue_in_which_all_has_expired_tells_the_gap() -> None:
    client, of = Lagging(), topic("latest")
    of.expiring = True
    client.outbox.offer(batch(of, 1, 2, expires=10))
    client.now = 10
    assert client.take() == [("t", 2, 1, 2)]


def test_holes_in_a_replay_are_told_where_they_are() -> None:
    client, of = Lagging(), topic("drop_oldest")
    kept = [*batch(of, 3, 4).events, *batch(of, 7, 7).events]
    client.outbox.replay(of, kept, after=1, until=9)
    client.outbox.offer(batch(of, 10, 10))
    expected = [("t", 1, 2, 2), *events(3, 4), ("t", 2, 5, 6), ["t", 7], ("t", 2, 8, 9), ["t", 10]]
    assert client.take() == expected
    client.outbox.unblock()
    client.outbox.replay(of, kept, after=1, until=9)
    assert client.take() == expected[:-1], "the same for a subscriber that does not lag"


def test_a_replay_for_who_knows_nothing_begins_with_what_there_is() -> None:
    client, of = Lagging(), topic("drop_oldest")
    client.outbox.replay(of, batch(of, 3, 4).events, after=None, until=4)
    assert client.take() == events(3, 4)
    client.outbox.replay(of, [], after=None, until=4)
    assert client.take() == []


def test_dropped_events_and_holes_beside_them_are_one_gap() -> None:
    client, of = Lagging(), topic("drop_oldest")
    client.outbox.replay(of, [*batch(of, 1, 2).events, *batch(of, 5, 5).events], after=0, until=5)
    client.outbox.offer(batch(of, 6, 13))
    assert client.take() == [("t", 5, 1, 5), *events(6, 13)]


def test_who_waits_for_the_queue_to_be_empty_is_called_once() -> None:
    client, of = Lagging(), topic("drop_oldest")
    calls: list[int] = []
    client.outbox.call_when_ready(lambda: calls.append(1))
    client.outbox.offer(batch(of, 1, 1))
    assert calls == []
    client.outbox.unblock()
    client.outbox.unblock()
    assert calls == [1]
    client.outbox.call_when_ready(lambda: calls.append(2))
    assert calls == [1, 2]


def test_a_replay_that_is_dropped_takes_its_room_with_it() -> None:
    client, of = Lagging(), topic("drop_oldest")
    client.outbox.replay(of, batch(of, 1, 50).events, after=None, until=50)
    for seq in range(51, 301):
        client.outbox.offer(batch(of, seq, seq))
    assert client.outbox.queued == LIMIT
    assert client.take() == [("t", 300 - LIMIT, 1, 300 - LIMIT), *events(301 - LIMIT, 300)]


def test_a_replay_that_is_taken_takes_its_room_with_it() -> None:
    client, of = Lagging(), topic("drop_oldest")
    client.outbox.replay(of, batch(of, 1, 50).events, after=None, until=50)
    assert client.take() == events(1, 50)
    client.outbox.offer(batch(of, 51, 50 + 2 * LIMIT))
    assert client.outbox.queued == LIMIT


def test_a_replay_makes_way_little_by_little() -> None:
    """Each new event beyond the limit drops one of the oldest, not the whole replay at once."""
    client, of = Lagging(), topic("drop_oldest")
    client.outbox.replay(of, batch(of, 1, 50).events, after=None, until=50)
    client.outbox.offer(batch(of, 51, 51 + LIMIT))
    assert client.take() == [("t", 1, 1, 1), *events(2, 51 + LIMIT)]


def test_what_may_not_be_dropped_is_not_walked_over_for_each_batch() -> None:
    """Many notices stand before the first event that may be dropped; dropping it still takes one step."""
    client, of, other = Lagging(), topic("drop_oldest"), topic("drop_newest", "other")
    for number in range(100):
        client.outbox.notify(other, json.dumps(["notice", number]).encode())
    steps = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    for seq in range(1, LIMIT + 1):
        client.outbox.offer(batch(of, seq, seq))
    batches = [batch(of, seq, seq) for seq in range(LIMIT + 1, 1001)]
    sys.setprofile(count)
    try:
        for each in batches:
            client.outbox.offer(each)
    finally:
        sys.setprofile(None)
    assert steps < 40 * len(batches)
    assert client.outbox.queued == LIMIT
    notices = [["notice", number] for number in range(100)]
    assert client.take() == [*notices, ("t", 1000 - LIMIT, 1, 1000 - LIMIT), *events(1001 - LIMIT, 1000)]


def filtered(of: Topic, first: int, last: int, *seqs: int) -> Batch:
    """Return a batch of a lane that filtered the events ``first`` to ``last`` and kept those of ``seqs``."""
    return Batch(of, [StoredEvent(n, json.dumps([of.name, n]).encode()) for n in seqs], b"", first, last)


@pytest.mark.parametrize(
    ("overflow", "told"),
    [
        ("drop_oldest", [("t", 3, 1, 15), ["t", 18], ["t", 22], ["t", 25], ["t", 31], ["t", 32]]),
        (
            "drop_newest",
            [*events(3, 3), *events(12, 12), *events(15, 15), *events(18, 18), *events(22, 22), ("t", 3, 25, 40)],
        ),
        ("latest", [("t", 7, 3, 31), *events(32, 32)]),
    ],
)
def test_what_a_filter_left_out_is_no_gap_and_is_not_counted(overflow: Overflow, told: list[Any]) -> None:
    client, of = Lagging(), topic(overflow)
    client.outbox.offer(filtered(of, 1, 10, 3))
    client.outbox.offer(filtered(of, 11, 30, 12, 15, 18, 22, 25))
    client.outbox.offer(filtered(of, 31, 40, 31, 32))
    assert client.outbox.dropped == (7 if overflow == "latest" else 3)
    assert client.take() == told
