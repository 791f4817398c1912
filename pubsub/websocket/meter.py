"""Plain counts of the traffic of all connections beside events, and the round trips of their heartbeats."""

from __future__ import annotations

from typing import Final

from pubsub.core.histogram import Histogram

ROUND_TRIPS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class Meter:
    """``received``: bytes from WebSocket clients, without those of TLS. ``answered``: bytes of answers and heartbeats.

    ``round_trips``: the times from a ping to its pong.
    """

    def __init__(self) -> None:
        self.received = 0
        self.answered = 0
        self.round_trips = Histogram(ROUND_TRIPS)
