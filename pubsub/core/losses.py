"""Losses: the one place that learns of every event that a subscriber should get and does not get. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from pubsub.core.event import Source, StoredEvent


class Loss(enum.Enum):
    """The reason for a loss. The values are the labels of metrics."""

    OVERFLOW = "overflow"  # the queue was full
    EXPIRED = "expired"  # while it waited in the queue
    SLOW_CONSUMER = "slow_consumer"  # the connection was closed for what waited
    DISCONNECTED = "disconnected"  # the connection ended while it waited


Letter = Callable[[str, Source, Sequence[StoredEvent], Loss], None]


def write_none(client_id: str, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
    """Ignore a loss: there are no dead letters."""


class Losses:
    """``counts``: events by reason, since the start of the server. ``gaps``: those that subscribers were told of.

    ``write`` is called for each loss in a topic with the option ``dead_letter``.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Loss, 0)
        self.gaps = 0
        self.write: Letter = write_none

    def lose(self, client_id: str, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        """Take note of events of one topic that one subscriber does not get."""
        self.counts[reason] += len(events)
        if topic.options.dead_letter is not None:
            self.write(client_id, topic, events, reason)
