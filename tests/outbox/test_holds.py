"""Topics whose rows wait: the time until the next attempt, and what is logged."""

from __future__ import annotations

import logging
from random import Random

import pytest

from pubsub.client.errors import Forbidden, TopicNotFound
from pubsub.outbox.holds import LONGEST_PAUSE_SEC, Holds


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Longest(Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def test_pauses_grow_and_end_with_a_release() -> None:
    clock = Clock()
    holds = Holds(clock, Longest())
    expected = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, *[LONGEST_PAUSE_SEC] * 3]
    for pause in expected:
        holds.hold("orders", TopicNotFound("topic not found"))
        assert holds.next_in() == pytest.approx(pause)
        assert holds.waiting() == ["orders"]
        clock.now += pause + 0.001
        assert holds.waiting() == []
        assert "orders" in holds
    holds.release("orders")
    assert holds.next_in() is None
    holds.hold("orders", TopicNotFound("topic not found"))
    assert holds.next_in() == pytest.approx(0.1)


def test_each_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pubsub.outbox")
    holds = Holds(Clock(), Random())
    for error in (TopicNotFound("not found"), TopicNotFound("not found"), Forbidden("forbidden")):
        holds.hold("orders", error)
    holds.release("orders")
    holds.release("another")
    assert caplog.messages == [
        "Topic waits: orders (not found)",
        "Topic waits: orders (forbidden)",
        "Topic goes on: orders",
    ]
