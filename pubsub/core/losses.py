"""Losses: the one place that learns of every event that a subscriber should get and does not get. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from pubsub.core.event import Source, StoredEvent


class Loss(enum.Enum):
    """The reason for a loss. The values are the labels of metrics."""

    OVERFLOW = "overflow"  # the queue was full
    EXPIRED = "expired"  # while it waited in the queue
    SLOW_CONSUMER = "slow_consumer"  # the connection was closed for what waited
    DISCONNECTED = "disconnected"  # the connection ended while it waited


class Losses:
    """``counts``: events by reason, since the start of the server. ``gaps``: those that subscribers were told of."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Loss, 0)
        self.gaps = 0

    def lose(self, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        """Count events of one topic that one subscriber does not get."""
        self.counts[reason] += len(events)
