"""The pace of a client's requests: as fast as the server answers, and no faster than it allows. It must never send.

A server refuses requests over the client's rate, and closes the connection of a client that goes on. So a connection
begins with a few requests at a time, and each answer lets one more in: then refusals are never more than successes.
"""

from __future__ import annotations

from math import inf
from typing import Final

__all__ = ["Pacing"]

FIRST_WINDOW: Final = 3
"""Requests without an answer at the beginning of a connection. A burst of one refuses two, which no server minds."""
FASTER: Final = 0.9
"""After an answer, the factor of the time between two requests, once there was a refusal."""
SHORTEST_INTERVAL_SEC: Final = 0.001
"""Below this time between two requests there is no limit any more."""


class Pacing:
    """See the module. All connections of a client share one: the server counts the requests of all of them.

    ``interval``: seconds between two requests after a refusal; 0 before the first.
    """

    def __init__(self) -> None:
        self._window = FIRST_WINDOW
        self._interval = 0.0
        self._next_at = 0.0

    def begin(self) -> None:
        """Begin a connection. A rate that is known from earlier ones stays."""
        self._window = min(self._window, FIRST_WINDOW)

    def delay(self, open_requests: int, now: float) -> float:
        """Return the seconds until the next request may be sent; infinite until an answer has come."""
        return inf if open_requests >= self._window else max(0.0, self._next_at - now)

    def sent(self, now: float) -> None:
        if self._interval:
            self._next_at = now + self._interval

    def answered(self) -> None:
        self._window += 1
        if self._interval:
            self._interval *= FASTER
            if self._interval < SHORTEST_INTERVAL_SEC:
                self._interval = 0.0

    def refused(self, retry_after_ms: float, now: float) -> None:
        """Slow down: after the time that the server gave, one request at a time."""
        pause = max(retry_after_ms / 1000, SHORTEST_INTERVAL_SEC)
        self._window = 1
        self._interval = pause
        self._next_at = now + pause
