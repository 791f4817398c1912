"""One topic of a subscription: its position, what waits, and the parts that are missing. It must never send.

Events are handed on in the order of ``seq``, each once. A missing part is asked for from the history of the topic; what
comes meanwhile waits behind it, in the line. A part that the server no longer keeps becomes a Gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Protocol

from msgspec import Struct

from pubsub.client.events import Gap, GapReason, Notice, Position
from pubsub.client.replies import Event

__all__ = ["Feed", "Missing", "Outlet", "Own"]


class Missing(Struct, eq=False):
    """The events after ``after`` up to ``until``, which are not here. ``count``: of them, where it is known.

    ``limit``: the largest page to ask for. ``asked``: the size of the page that is on its way, 0 if none is.
    """

    after: int
    until: int
    count: int | None
    limit: int
    asked: int = 0


class Own(Struct, frozen=True, gc=False):
    """A message that this client published itself, and that the subscription leaves out."""

    seq: int


class Outlet(Protocol):
    """The queue of a subscription, as its feeds see it (Inbox)."""

    own: Container[str] | None
    mends: bool
    page: int
    active: bool
    overfull: bool

    @property
    def has_room(self) -> bool: ...

    def put(self, feed: Feed, item: Event | Own | Gap | Notice) -> None: ...

    def hold(self) -> None: ...

    def put_held(self, feed: Feed, item: Event | Own | Gap | Notice) -> None: ...

    def fall_behind(self, feed: Feed) -> None: ...

    def catch_up(self, feed: Feed, *, forgotten: int = 0) -> None: ...

    def ask_history(self, feed: Feed, part: Missing) -> None: ...


class Feed:
    """See the module.

    ``seq``: the last one that came or is known to be missing, 0 before the first. ``start``: the position at which the
    feed began. ``handed``: the last one that the user has, None before the first item. ``lost_until``: the server no
    longer keeps everything up to this one. ``previous``: the topic's earlier life, until the user knows of this one.
    """

    __slots__ = ("_inbox", "epoch", "handed", "line", "lost_until", "previous", "seq", "start", "topic")

    def __init__(
        self, inbox: Outlet, topic: str, epoch: str, *, seq: int = 0, start: int = 0, previous: Feed | None = None
    ) -> None:
        self.topic = topic
        self.epoch = epoch
        self.seq = seq
        self.start = start
        self.handed: int | None = None
        self.previous = previous
        self.lost_until = 0
        self.line: deque[Event | Own | Gap | Notice | Missing] | None = None
        self._inbox = inbox

    @property
    def received(self) -> Position:
        """The position after which a later connection has to resume."""
        return Position(self.epoch, self.seq or self.start)

    @property
    def position(self) -> Position:
        """The position that the user has reached."""
        if self.handed is not None:
            return Position(self.epoch, self.handed)
        return Position(self.epoch, self.start) if self.previous is None else self.previous.position

    def take(self, event: Event) -> None:
        """Take an event that has come. It is called for each one, so its cost counts."""
        seq = event.seq
        if seq <= self.seq:
            return
        self.seq = seq
        inbox = self._inbox
        if self.line is None and not inbox.overfull:
            inbox.put(self, event if inbox.own is None else self._shown(event))
        else:
            self._take_late(event)

    def tell(self, news: Gap | Notice) -> None:
        """Put in news behind what has come."""
        if self.line is None:
            self._inbox.put(self, news)
        else:
            self._hold(news)

    def miss(self, from_seq: int, to_seq: int, count: int) -> None:
        """Note that the server has dropped ``count`` events within these bounds."""
        after = max(from_seq - 1, self.seq)
        if to_seq > after:
            self.seq = to_seq
            self._leave_out(after, to_seq, count)
            self.advance()

    def advance(self) -> None:
        """Hand on what waits, up to the next missing part, and ask for that part if there is room for it."""
        line = self.line
        if line is None:
            return
        while line:
            head = line[0]
            if not isinstance(head, Missing):
                self._inbox.put_held(self, head)
            elif not self._end_missing(head):
                return
            line.popleft()
        self.line = None
        self._inbox.catch_up(self)

    def hand_on(self, event: Event) -> None:
        """Hand on an event of the history."""
        self._inbox.put(self, self._shown(event))

    def end(self) -> None:
        """Hand on all that waits: the topic has ended, and what is missing can't be had any more."""
        line, self.line = self.line, None
        for item in line or ():
            if isinstance(item, Missing):
                self.tell_gap(item.after, item.until, item.count, "lost")
            else:
                self._inbox.put_held(self, item)
        self._inbox.catch_up(self)

    def clear(self) -> None:
        """Forget what waits."""
        forgotten = sum(not isinstance(item, Missing) for item in self.line or ())
        self.line = None
        self._inbox.catch_up(self, forgotten=forgotten)

    def disconnect(self) -> None:
        """Forget that a page was on its way."""
        if self.line and isinstance(head := self.line[0], Missing):
            # Another object: an answer or a pause that was meant for the old one comes to nothing.
            self.line[0] = Missing(head.after, head.until, head.count, head.limit)

    def awaits(self, part: Missing) -> bool:
        """Return True if the answer to a request for ``part`` is still of use."""
        return self.line is not None and len(self.line) > 0 and self.line[0] is part

    def tell_gap(self, after: int, until: int, count: int | None, reason: GapReason) -> None:
        self._inbox.put(self, Gap(self.topic, self.epoch, after + 1, until, count, reason))

    def _end_missing(self, part: Missing) -> bool:
        """Return True if nothing of this part can be had. Otherwise ask for it, once there is room."""
        inbox = self._inbox
        if part.after == part.until:
            return True
        if not inbox.has_room:
            return False
        if inbox.mends:
            if inbox.active and not part.asked:
                part.asked = min(part.limit, part.until - part.after)
                inbox.ask_history(self, part)
            return False
        self.tell_gap(part.after, part.until, part.count, "lost" if part.until <= self.lost_until else "dropped")
        return True

    def _take_late(self, event: Event) -> None:
        """Keep back an event, or leave it out if there is no room."""
        if self._inbox.overfull:
            self._leave_out(event.seq - 1, event.seq, 1)
        else:
            self._hold(self._shown(event))

    def _shown(self, event: Event) -> Event | Own:
        own = self._inbox.own
        return event if own is None or event.message.id not in own else Own(event.seq)

    def _hold(self, item: Event | Own | Gap | Notice) -> None:
        assert self.line is not None, "only what comes behind a missing part waits"
        self.line.append(item)
        self._inbox.hold()

    def _leave_out(self, after: int, until: int, count: int) -> None:
        line = self.line
        if line is None:
            line = self.line = deque()
            self._inbox.fall_behind(self)
        last = line[-1] if line else None
        if isinstance(last, Missing) and not last.asked:
            last.until = until
            last.count = None if last.count is None else last.count + count
        else:
            line.append(Missing(after, until, count, self._inbox.page))
