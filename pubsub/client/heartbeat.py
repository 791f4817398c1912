"""The watch over a silent connection: a ping after one period, the end after two. It must never connect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pubsub.client.host import Host, Timer
from pubsub.client.requests import Ping, encode

_PING: Final = encode(Ping())


class Heartbeat:
    """See the module. ``heard_at`` is set with each message that comes.

    ``is_paused``: nothing is read at the moment, so silence means nothing.
    """

    def __init__(self, host: Host, period: float, is_paused: Callable[[], bool]) -> None:
        self.heard_at = 0.0
        self._host = host
        self._period = period
        self._is_paused = is_paused
        self._timer: Timer | None = None

    def start(self) -> None:
        self.stop()
        self.heard_at = self._host.clock()
        self._timer = self._host.call_later(self._period, self._check)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        now = self._host.clock()
        if self._is_paused():
            self.heard_at = now
        silent = now - self.heard_at
        if silent >= 2 * self._period:
            self._timer = None
            self._host.drop(f"nothing came for {silent:.0f} s")
            return
        if silent >= self._period:
            self._host.send(_PING)
        due = self.heard_at + (2 if silent >= self._period else 1) * self._period
        self._timer = self._host.call_later(due - now, self._check)
