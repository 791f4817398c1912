"""Departures: the counts of all connections that have ended, and some facts about the last of them, for a while."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pubsub.core.trail import Trail
from pubsub.protocol.answers import TransportName
from pubsub.websocket.ending import Ending

MOST: Final = 1000  # connections that are remembered: 0.5 to 5 KiB each


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A connection that has ended, at the moment ``at``. ``connected_at`` and ``ended_at``: in Unix time."""

    client_id: str
    transport_name: TransportName
    kind: Ending
    text: str
    at: float
    connected_at: int
    ended_at: int
    dropped: int
    trail: Trail | None


class Departures:
    """See the module. ``keep``: the seconds for which a connection is remembered."""

    def __init__(self, now: Callable[[], float], keep: float) -> None:
        self.counts: Counter[tuple[TransportName, Ending]] = Counter()
        self._now = now
        self._keep = keep
        self._last: deque[Departure] = deque(maxlen=MOST)

    def add(self, departure: Departure) -> None:
        self.counts[departure.transport_name, departure.kind] += 1
        self._last.append(departure)
        self._forget()

    @property
    def last(self) -> list[Departure]:
        """Those that are remembered, the newest first."""
        self._forget()
        return list(reversed(self._last))

    def of_client(self, client_id: str) -> list[Departure]:
        """Those of one client that are remembered, the newest first."""
        return [each for each in self.last if each.client_id == client_id]

    def _forget(self) -> None:
        while self._last and self._last[0].at <= self._now() - self._keep:
            self._last.popleft()
