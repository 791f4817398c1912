"""The queue of one subscription, between the connection and its user. It must never send, and never wait.

It has at most ``limit`` items. When it is full, nothing more is read from the connection. If something else has to be
read from there, it takes as many items again; beyond that events are left out, and asked for again later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, Raw

from pubsub.client.errors import PayloadError
from pubsub.client.events import Event, Gap, Item, Notice
from pubsub.client.feed import Feed, Missing, Own
from pubsub.client.replies import Event as Received
from pubsub.client.requests import MAX_HISTORY_LIMIT

__all__ = ["Inbox", "InboxRules", "event_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRules:
    """The wishes of a user that concern the queue.

    ``decode`` makes a payload of its JSON, and raises ValueError. ``own``: the ids of messages to leave out; None
    leaves out none. ``mends``: what is missing is asked for again.
    """

    decode: Callable[[Raw], Any]
    limit: int
    own: Container[str] | None = None
    mends: bool = True


class Inbox:
    """See the module.

    ``ask_history`` is called for a missing part of a feed, ``note_room`` when ``full`` changes. ``wake`` is called
    once, when there is something to take. ``active``: the connection has the subscription.
    """

    def __init__(
        self, rules: InboxRules, ask_history: Callable[[Feed, Missing], None], note_room: Callable[[], None]
    ) -> None:
        self.own = rules.own
        self.mends = rules.mends
        self.page = min(rules.limit, MAX_HISTORY_LIMIT)
        self._ask_history = ask_history
        self.active = False
        self.full = False
        self.overfull = False
        self.wake: Callable[[], None] | None = None
        self._decode = rules.decode
        self._limit = rules.limit
        self._mark = rules.limit  # the length of the queue from which on the inbox is full
        self._held = 0
        self._queue: deque[tuple[Feed, Received | Own | Gap | Notice]] = deque()
        self._behind: set[Feed] = set()
        self._note_room = note_room

    @property
    def has_room(self) -> bool:
        """True if there is room for a page of the history."""
        return len(self._queue) <= self._limit // 2

    @property
    def head(self) -> object:
        """The next item that can be taken: as long as it is the same object, nothing was taken."""
        return self._queue[0] if self._queue else None

    def put(self, feed: Feed, item: Received | Own | Gap | Notice) -> None:
        """Queue the next item of a feed."""
        queue = self._queue
        queue.append((feed, item))
        if self.wake is not None:
            self.notify()
        if len(queue) >= self._mark:
            self._fill()

    def hold(self) -> None:
        """Count an item that waits in a feed."""
        self._held += 1
        self._mark -= 1
        self._fill()

    def put_held(self, feed: Feed, item: Received | Own | Gap | Notice) -> None:
        """Queue an item that was counted by :meth:`hold`."""
        self._held -= 1
        self._mark += 1
        self.put(feed, item)

    def fall_behind(self, feed: Feed) -> None:
        """Note that a feed misses something, and needs room for it."""
        self._behind.add(feed)

    def catch_up(self, feed: Feed, *, forgotten: int = 0) -> None:
        """Note that a feed misses nothing any more. ``forgotten``: the items that it does not hold any more."""
        self._behind.discard(feed)
        self._held -= forgotten
        self._mark += forgotten

    def ask_history(self, feed: Feed, part: Missing) -> None:
        """Ask for a missing part of a feed."""
        self._ask_history(feed, part)

    def take(self) -> Item[Any] | None:
        """Return the next item, None if there is none. Raises PayloadError for an event that can't be decoded."""
        queue = self._queue
        while queue:
            feed, item = queue.popleft()
            if self.full or self._behind:
                self._ease()
            if isinstance(item, Received):
                feed.handed = item.seq
                return event_of(item, feed.epoch, self._decode)
            if isinstance(item, Own):
                feed.handed = item.seq
            else:
                feed.handed = _reached(feed, item)
                feed.previous = None
                return item
        return None

    def notify(self) -> None:
        """Wake the user, if it waits."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    def clear(self) -> None:
        """Forget all items."""
        self._queue.clear()
        self._ease()

    def _fill(self) -> None:
        size = len(self._queue) + self._held
        self.overfull = size >= 2 * self._limit
        if not self.full and size >= self._limit:
            self.full = True
            self._note_room()

    def _ease(self) -> None:
        """Continue what waited for room."""
        size = len(self._queue) + self._held
        self.overfull = size >= 2 * self._limit
        if self.full and size <= self._limit // 2:
            self.full = False
            self._note_room()
        if self._behind and self.has_room:
            for feed in list(self._behind):
                feed.advance()


def event_of(event: Received, epoch: str, decode: Callable[[Raw], Any]) -> Event[Any]:
    """Make an event for users. Raises PayloadError if its payload can't be decoded."""
    sender = None if event.sender is UNSET else event.sender
    message = event.message
    try:
        payload = decode(message.payload)
    except (ValueError, RecursionError) as error:  # msgspec's and pydantic's are ValueErrors
        raw = Event(event.topic, event.seq, epoch, message.id, message.payload, event.ts, sender)
        raise PayloadError(f"topic {event.topic}, seq {event.seq}: {error}", raw) from error
    return Event(event.topic, event.seq, epoch, message.id, payload, event.ts, sender)


def _reached(feed: Feed, item: Gap | Notice) -> int:
    """Return the position in a feed after ``item``."""
    if isinstance(item, Gap) and item.to_seq is not None:
        return item.to_seq
    return feed.start if feed.handed is None else feed.handed
