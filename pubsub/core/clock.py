"""The time of day in the form of the wire, and the monotonic time for everything that expires."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """UTC in RFC 3339 with whole seconds, formatted at most once a second: 0.1 µs a call instead of 1.1.

    ``monotonic`` is in seconds and does not follow changes of the system's clock.
    """

    __slots__ = ("_now", "_second", "_text", "monotonic")

    def __init__(self, now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._second = -1
        self._text = ""
        self.monotonic = monotonic

    def seconds(self, ago: float = 0) -> int:
        """The Unix time in whole seconds, now or some seconds ago."""
        return int(self._now() - ago)

    def timestamp(self) -> str:
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._text = spell(second)
        return self._text


def spell(second: int) -> str:
    """A Unix time in the form of the wire."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
