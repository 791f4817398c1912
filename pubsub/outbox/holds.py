"""The topics whose rows wait, because the server does not take them for now. It must never give a row up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import Final

from msgspec import Struct

from pubsub.client.errors import PubsubError
from pubsub.client.pauses import Pauses

log = logging.getLogger(__name__)

LONGEST_PAUSE_SEC: Final = 30.0


class _Hold(Struct):
    pauses: Pauses
    error: str
    until: float


class Holds:
    """See the module. ``clock``: seconds that never go back."""

    def __init__(self, clock: Callable[[], float], random: Random) -> None:
        self._clock = clock
        self._random = random
        self._holds: dict[str, _Hold] = {}

    def __contains__(self, topic: object) -> bool:
        return topic in self._holds

    def hold(self, topic: str, error: PubsubError) -> None:
        """Have the rows of a topic wait, longer each time. Each new error is logged once."""
        hold = self._holds.setdefault(topic, _Hold(Pauses(self._random, LONGEST_PAUSE_SEC), "", 0))
        hold.until = self._clock() + hold.pauses.next()
        if hold.error != (text := str(error)):
            hold.error = text
            log.error("Topic waits: %(topic)s (%(error)s)", {"topic": topic, "error": text})

    def release(self, topic: str) -> None:
        """Note that the server takes a topic's rows."""
        if self._holds.pop(topic, None) is not None:
            log.info("Topic goes on: %(topic)s", {"topic": topic})

    def waiting(self) -> list[str]:
        """Return the topics that are not to be tried now."""
        now = self._clock()
        return [topic for topic, hold in self._holds.items() if hold.until > now]

    def next_in(self) -> float | None:
        """Return the seconds until a topic is to be tried, None without one."""
        now = self._clock()
        return min((max(0.0, hold.until - now) for hold in self._holds.values()), default=None)
