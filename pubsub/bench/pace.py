"""The pace of a run: publish as acks come, or as messages become due, and a slow server must never move a due time."""

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
"""The most publishes at a time; then the subscribers read again, so that the publisher does not add to latencies."""
MAX_EVEN_RATE: Final = SECOND // TICK
"""Above it a wake-up for each message would itself be the load; messages are due together, once each tick."""


class Schedule:
    """The times at which messages are due, in nanoseconds since the start; number 0 is due at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._grain = 1 if rate <= MAX_EVEN_RATE else TICK

    def due_at(self, number: int) -> int:
        exact = -(-number * SECOND // self._rate)
        return -(-exact // self._grain) * self._grain

    def due_by(self, elapsed: int) -> int:
        """Return how many messages are due after ``elapsed`` nanoseconds."""
        return elapsed // self._grain * self._grain * self._rate // SECOND + 1


class Windowed:
    """Closed loop: always as many messages in flight as the window allows."""

    def __init__(self, window: int) -> None:
        self._window = window

    def start(self, began: int, refill: Callable[[], None]) -> None:
        refill()

    def refill(self, publisher: Publisher) -> bool:
        """Publish at most a slice of the messages that may be sent; return True if some are left."""
        end = publisher.published + SLICE
        while publisher.published < end and (room := self._window - publisher.in_flight) > 0:
            publisher.publish(min(room, BUNCH), time.monotonic_ns())
        return publisher.in_flight < self._window

    def unsent(self, publisher: Publisher) -> int:
        """Return how many messages are due and could not be sent."""
        return 0

    def stop(self) -> None:
        pass


class Scheduled:
    """Open loop: messages are due by the clock alone, and their send time is the time at which they were due.

    A message that can't be sent in time, because ``most_in_flight`` are without ack, is sent later with the same send
    time: a pause of the server counts for every message that was due during it (no coordinated omission).
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
        """Publish at most a slice of the messages that may be sent; return True if some are left."""
        end = publisher.published + SLICE
        limit = min(self._due(), publisher.acked + self._most_in_flight)
        while (room := min(limit, end) - publisher.published) > 0:
            at = self._schedule.due_at(publisher.published)
            together = self._schedule.due_by(at) - publisher.published
            publisher.publish(min(room, together, BUNCH), self._began + at)
        return publisher.published < limit

    def unsent(self, publisher: Publisher) -> int:
        """Return how many messages are due and could not be sent."""
        return max(0, self._due() - publisher.published)

    def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.stop()

    def _due(self) -> int:
        return self._schedule.due_by(min(time.monotonic_ns() - self._began, self._end))

    def _next_due(self) -> int:
        return self._began + self._schedule.due_at(self._due())


class Ticker(threading.Thread):
    """Wakes the event loop when a message is due: timers of the loop are up to 1 ms late, which would count."""

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
