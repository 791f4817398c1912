"""When to publish: as acks come, or when messages are due."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

from pubsub.bench.clients import BUNCH, Publisher

SECOND: Final = 1_000_000_000  # nanoseconds
TICK: Final = 1_000_000
LEAST_WAIT: Final = TICK // 10
SLICE: Final = 8 * BUNCH
"""So many publishes at most, then the subscribers are read from again, lest the client make them slow."""
MAX_EVEN_RATE: Final = SECOND // TICK
"""Above it a wake-up for each message would be the load; messages are due in bunches, one each tick."""


class Schedule:
    """When each message is due, in nanoseconds since the start. The first is number 0, and due at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._grain = 1 if rate <= MAX_EVEN_RATE else TICK

    def due_at(self, number: int) -> int:
        exact = -(-number * SECOND // self._rate)
        return -(-exact // self._grain) * self._grain

    def due_by(self, elapsed: int) -> int:
        """How many are due."""
        return elapsed // self._grain * self._grain * self._rate // SECOND + 1


class Windowed:
    """Closed loop: as many messages in flight as the window has, always."""

    def __init__(self, window: int) -> None:
        self._window = window

    def start(self, began: int, refill: Callable[[], None]) -> None:
        refill()

    def refill(self, publisher: Publisher) -> bool:
        """Publish a slice of what there is to publish; whether something is left."""
        end = publisher.published + SLICE
        while publisher.published < end and (room := self._window - publisher.in_flight) > 0:
            publisher.publish(min(room, BUNCH), time.monotonic_ns())
        return publisher.in_flight < self._window

    def unsent(self, publisher: Publisher) -> int:
        """How many messages are due and could not be sent."""
        return 0

    def stop(self) -> None:
        pass


class Scheduled:
    """Open loop: messages are due by the clock alone, and their send time is when they were due.

    One that can't be sent in time, because ``most_in_flight`` are without ack, is sent later with the same send time:
    what a server's pause does to all that was due in it is seen (no coordinated omission).
    """

    def __init__(self, rate: int, duration: float, most_in_flight: int) -> None:
        self._schedule = Schedule(rate)
        self._end = int(duration * SECOND) - 1
        self._most_in_flight = most_in_flight
        self._began = 0
        self._ticker: Ticker | None = None

    def start(self, began: int, refill: Callable[[], None]) -> None:
        self._began = began
        self._ticker = Ticker(self._next_due, refill)
        self._ticker.start()

    def refill(self, publisher: Publisher) -> bool:
        """Publish a slice of what there is to publish; whether something is left."""
        end = publisher.published + SLICE
        limit = min(self._due(), publisher.acked + self._most_in_flight)
        while (room := min(limit, end) - publisher.published) > 0:
            at = self._schedule.due_at(publisher.published)
            together = self._schedule.due_by(at) - publisher.published
            publisher.publish(min(room, together, BUNCH), self._began + at)
        return publisher.published < limit

    def unsent(self, publisher: Publisher) -> int:
        """How many messages are due and could not be sent."""
        return max(0, self._due() - publisher.published)

    def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.stop()

    def _due(self) -> int:
        return self._schedule.due_by(min(time.monotonic_ns() - self._began, self._end))

    def _next_due(self) -> int:
        return self._began + self._schedule.due_at(self._due())


class Ticker(threading.Thread):
    """Wakes the event loop when something is due: its own timers are up to a millisecond late, and that would count."""

    def __init__(self, next_due: Callable[[], int], tick: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._next_due = next_due
        self._tick = tick
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(max(LEAST_WAIT, self._next_due() - time.monotonic_ns()) / SECOND):
            self._loop.call_soon_threadsafe(self._tick)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


Pace = Windowed | Scheduled
