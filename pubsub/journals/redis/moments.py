"""The time at which Redis would have taken a message of another journal, and its lifetime. No I/O.

Redis looks for the first message that has not expired by halves: on a topic with a TTL the times must not decrease.
"""

from __future__ import annotations

import calendar
import time
from math import inf
from typing import Final

from msgspec import Struct

LEAST_LIFETIME: Final = 0.001


class Moment(Struct, frozen=True):
    """``at``: Unix time. ``lifetime``: seconds, 0 for none. ``is_odd``: it ends before the topic's TTL would end it."""

    at: float
    lifetime: float
    is_odd: bool

    @property
    def end(self) -> str:
        """Return the end as the scripts read it."""
        return f"{self.at + self.lifetime:.6f}"


class Moments:
    """The moments of a topic's messages, one after the other. ``ttl``: its seconds, 0 for none."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._last = 0.0

    def of(self, ts: str, expires: float) -> Moment:
        """Return the moment of the next message, with its time stamp and the Unix time of its end, ``inf`` for none."""
        stamped = max(seconds_of(ts), self._last)  # in whole seconds
        if expires == inf:
            self._last = stamped
            return Moment(stamped, 0.0, is_odd=False)
        at = self._last = max(stamped, expires - self._ttl) if self._ttl else stamped
        lifetime = max(expires - at, LEAST_LIFETIME)
        if self._ttl and abs(lifetime - self._ttl) < LEAST_LIFETIME / 2:
            return Moment(at, self._ttl, is_odd=False)
        return Moment(at, lifetime, is_odd=not self._ttl or lifetime < self._ttl)


def seconds_of(ts: str) -> float:
    """Return a time stamp as Unix time; 0 for one that is none: an import takes any text."""
    try:
        return float(calendar.timegm(time.strptime(ts, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return 0.0
