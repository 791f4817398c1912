"""Deliveries at the end of a tick: the events of all topics that have some, piece by piece if they are many. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pubsub.core.filtered_lane import ROOM, Evaluator
from pubsub.core.histogram import Histogram

if TYPE_CHECKING:
    from pubsub.core.topic import Topic

LATENCIES: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)  # seconds


class Flushes:
    """See the module. ``defer(callback)`` calls ``callback`` at the end of the tick; ``now`` is in seconds.

    ``latency``: the times from the first event of a tick to the end of its writes, of those ticks that were measured.
    """

    def __init__(
        self, defer: Callable[[Callable[[], None]], object], evaluator: Evaluator, now: Callable[[], float]
    ) -> None:
        self.latency = Histogram(LATENCIES)
        self._evaluator = evaluator
        self._now = now
        self._waiting: list[Topic] = []
        self._defer = defer
        self._begin_plain: Callable[[], object] = partial(defer, self._flush_tick)
        self._begin: Callable[[], object] = self._begin_plain

    def add(self, topic: Topic) -> None:
        """Deliver the pending events of a topic at the end of the tick."""
        if not self._waiting:
            self._begin()
        self._waiting.append(topic)

    def measure_next(self) -> None:
        """Measure the latency of the next tick that delivers. So the others pay nothing for it."""
        self._begin = self._begin_measured

    def flush(self) -> None:
        """Deliver all events that wait."""
        topics, self._waiting = self._waiting, []
        for topic in topics:
            topic.flush()

    def settle(self) -> None:
        """Deliver all events that wait, also those that wait for the evaluation of filters."""
        self.flush()
        self._evaluator.settle()

    def _begin_measured(self) -> None:
        self._begin = self._begin_plain
        self._defer(partial(self._flush_measured, self._now()))

    def _flush_measured(self, began: float) -> None:
        self._flush_tick()
        self.latency.observe(self._now() - began)

    def _flush_tick(self) -> None:
        """Deliver the events of this tick; of a long list one piece in each tick."""
        self._evaluator.room = ROOM
        topics, self._waiting = self._waiting, []
        for topic in topics:
            if topic.flush_piece():
                self.add(topic)
        if self._evaluator.measured:  # else no lane has a filter, and a call costs 0.04 µs
            self._evaluator.end_tick()
