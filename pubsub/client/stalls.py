"""A search for users that wait for each other, over the queues of one connection. It must never read by itself.

A program may wait in one subscription for an item that comes behind those of another one, which it does not take
meanwhile: then the second queue is full, nothing is read, and it would wait for ever. After a while reading goes on.
What has no room is left out, and fetched later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from pubsub.client.host import Host, Timer
from pubsub.client.interest import Interest

__all__ = ["Stalls"]

PATIENCE_SEC: Final = 1.0
"""The time in which nobody takes anything from a full queue while somebody else waits."""


class Stalls:
    """See the module. ``interests``: all of the connection; ``full``: those with a full queue. ``found``: read on."""

    def __init__(self, host: Host, interests: Mapping[str, Interest], full: Collection[Interest]) -> None:
        self.found = False
        self._host = host
        self._interests = interests
        self._full = full
        self._heads: dict[Interest, object] = {}
        self._timer: Timer | None = None

    def watch(self) -> None:
        """Begin to watch, if there is a full queue."""
        if self._full and self._timer is None:
            self._heads = {interest: interest.inbox.head for interest in self._full}
            self._timer = self._host.call_later(PATIENCE_SEC, self._look)

    def stop(self) -> None:
        """Watch no more: the connection has ended, or no queue is full."""
        self.found = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        is_stuck = all(interest.inbox.head is self._heads.get(interest) for interest in self._full)
        self.found = is_stuck and any(each.inbox.wake is not None for each in self._interests.values())
        if self.found:
            self._host.read()
        self.watch()
