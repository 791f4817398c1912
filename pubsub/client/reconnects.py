"""The decision after each connection: try again after a pause, or never. It must never connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pubsub.client.close_codes import explain_close, explain_refusal
from pubsub.client.errors import Disconnected, PubsubError, Unreachable
from pubsub.client.host import Host
from pubsub.client.pauses import Pauses

LONGEST_PAUSE_SEC: Final = 30.0
STABLE_SEC: Final = 10.0
"""After a connection that lasted this long, the pauses are short again."""
LONGEST_DRAIN_SEC: Final = 60.0
"""A server that tells its clients to stay away for longer is not believed."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The next attempt comes after ``pause`` seconds. ``error`` is the reason of the last one."""

    error: PubsubError
    pause: float


class Reconnects:
    """See the module. ``renewable``: a function gives a new token each time, so a refused token is no end."""

    def __init__(self, host: Host, *, renewable: bool) -> None:
        self._host = host
        self._renewable = renewable
        self._pauses = Pauses(host.random, LONGEST_PAUSE_SEC)
        self._opened_at: float | None = None
        self._was_open = False
        self._not_before = 0.0

    def opened(self) -> None:
        self._opened_at = self._host.clock()
        self._was_open = True

    def drain(self, after_ms: float) -> None:
        """Note the time that a server gave which shuts down."""
        self._not_before = self._host.clock() + min(max(after_ms, 0) / 1000, LONGEST_DRAIN_SEC)

    def after_close(self, code: int, reason: str) -> Retry | Disconnected:
        known = explain_close(code, reason, renewable=self._renewable)
        return self._retry(Unreachable(known.reason)) if known.reconnects else Disconnected(code, known.reason)

    def after_refusal(self, status: int) -> Retry | Disconnected:
        """Decide after a handshake that was answered with another status than 101."""
        known = explain_refusal(status, renewable=self._renewable, worked_before=self._was_open)
        return self._retry(Unreachable(known.reason)) if known.reconnects else Disconnected(status, known.reason)

    def after_failure(self, error: PubsubError) -> Retry:
        """Decide after an attempt that got no answer."""
        return self._retry(error)

    def _retry(self, error: PubsubError) -> Retry:
        now = self._host.clock()
        if self._opened_at is not None and now - self._opened_at >= STABLE_SEC:
            self._pauses.reset()
        self._opened_at = None
        return Retry(error, max(self._pauses.next(), self._not_before - now))
