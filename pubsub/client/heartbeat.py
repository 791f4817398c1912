"""The watch over a silent connection: a ping after one period, the end after two. It must never connect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pubsub.client.host import Host, Timer
from pubsub.client.requests import Ping, encode

_PING: Final = encode(Ping())


CHECKS: Final = 4
"""Checks in a period. The clock is not asked for each message, because that would cost more than to take it in."""


class Heartbeat:
    """See the module. ``heard`` is set with each message that comes.

    ``is_paused``: nothing is read at the moment, so silence means nothing.
    """

    def __init__(self, host: Host, period: float, is_paused: Callable[[], bool]) -> None:
        self.heard = False
        self._silent = 0  # checks without a message
        self._host = host
        self._period = period
        self._is_paused = is_paused
        self._timer: Timer | None = None

    def start(self) -> None:
        self.stop()
        self._silent = 0
        self._timer = self._host.call_later(self._period / CHECKS, self._check)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._silent = 0 if self.heard or self._is_paused() else self._silent + 1
        self.heard = False
        if self._silent == 2 * CHECKS:
            self._timer = None
            self._host.drop(f"nothing came for {2 * self._period:g} s")
            return
        if self._silent == CHECKS:
            self._host.send(_PING)
        self._timer = self._host.call_later(self._period / CHECKS, self._check)
