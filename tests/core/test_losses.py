"""Losses: each event that a subscriber does not get is counted once, by reason."""

from __future__ import annotations

import pytest

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.lane import Subscriber
from pubsub.core.losses import Loss, Losses
from pubsub.protocol.requests import Overflow
from tests.core.test_backlog import LIMIT, batch, filtered, topic
from tests.doubles import Sink


class Stalled:
    """A subscriber with a blocked socket, and its losses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.losses = Losses()
        options = OutboxOptions(LIMIT, Clock(lambda: 0, lambda: self.now), losses=self.losses)
        self.subscriber = Subscriber(Sink(lambda encoded: None), options)
        self.subscriber.block()

    @property
    def lost(self) -> dict[str, int]:
        return {reason.value: count for reason, count in self.losses.counts.items() if count}


@pytest.mark.parametrize(
    ("overflow", "lost"), [("drop_oldest", 4), ("drop_newest", 4), ("latest", 8)], ids=["oldest", "newest", "latest"]
)
def test_what_is_dropped_for_want_of_room(overflow: Overflow, lost: int) -> None:
    client, of = Stalled(), topic(overflow)
    for first in (1, 4, 7):
        client.subscriber.offer(batch(of, first, first + 2))
    assert client.lost == {"overflow": lost}
    assert client.subscriber.dropped == lost


def test_what_expires_while_it_waits() -> None:
    client, of = Stalled(), topic("drop_oldest")
    of.expiring = True
    client.subscriber.offer(batch(of, 1, 2, expires=1.0))
    client.subscriber.offer(batch(of, 3, 4))
    client.now = 2.0
    client.subscriber.unblock()
    assert client.lost == {"expired": 2}
    assert client.subscriber.dropped == 2


def test_a_topic_that_disconnects_loses_what_came_and_what_waited() -> None:
    client, of = Stalled(), topic("disconnect")
    client.subscriber.offer(batch(of, 1, 4))
    client.subscriber.offer(batch(of, 5, 6))
    client.subscriber.offer(batch(of, 7, 7))
    assert client.subscriber.overflowed
    client.subscriber.clear(Loss.SLOW_CONSUMER)
    assert client.lost == {"slow_consumer": 7}


@pytest.mark.parametrize("reason", [Loss.SLOW_CONSUMER, Loss.DISCONNECTED])
def test_what_waits_is_given_up_once_and_in_whole(reason: Loss) -> None:
    client, newest = Stalled(), topic("latest", "n")
    of = topic("drop_oldest")
    client.subscriber.offer(filtered(of, 1, 9, 2, 4, 6, 8, 9))
    client.subscriber.offer(filtered(of, 10, 20, 15, 16))
    client.subscriber.offer(batch(newest, 1, 2))
    client.subscriber.notify(of, b'"notice"')
    client.subscriber.clear(reason)
    client.subscriber.clear(reason)
    assert client.lost == {"overflow": 3, reason.value: LIMIT + 1}
    assert client.subscriber.dropped == 3


def test_nothing_is_lost_for_a_subscriber_that_keeps_up() -> None:
    client = Stalled()
    client.subscriber.unblock()
    client.subscriber.offer(batch(topic("drop_oldest"), 1, 3))
    client.subscriber.clear(Loss.DISCONNECTED)
    assert client.lost == {}
