"""The parts of the server that have the counts. Nothing here counts anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pubsub.core.broker import Broker
from pubsub.core.dead_letters import DeadLetters
from pubsub.core.histogram import Histogram
from pubsub.metrics.single_call import SingleCall
from pubsub.websocket.services import Services

LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """See the module. ``loop_lag``: the lags of the event loop. ``topic_limit``: the most topics with their own series.

    ``authentication_failures`` and ``rate_limited`` return counts. ``system`` asks the operating system.
    """

    broker: Broker
    dead_letters: DeadLetters
    services: Services
    loop_lag: Histogram
    version: str
    topic_limit: int
    authentication_failures: Callable[[], int]
    rate_limited: Callable[[], int]
    system: SingleCall[Any] = field(default_factory=SingleCall)
