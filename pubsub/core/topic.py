"""A topic: its ring of kept events, its ``seq`` and ``epoch``, and the lanes that carry new events to subscribers.

Only the Broker changes a topic. It does no I/O, and does not decide what is dropped: the Backlog does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from pubsub.core.event import BATCH_BYTES, Encoding, StoredEvent
from pubsub.core.lane import Lane
from pubsub.core.ring import Ring, Slots
from pubsub.protocol.requests import TopicOptions

if TYPE_CHECKING:
    from pubsub.core.log import TopicLog
    from pubsub.filters.filters import Matcher

REMOVED_AT_ONCE: Final = 200  # expired events that one publish removes: it adds only one, so all are soon gone
# Events that may wait for their delivery piece by piece. Beyond it, each new event has one piece delivered.
PENDING_BYTES: Final = 2 * 1024 * 1024


class Page(NamedTuple):
    """Unexpired events of a ring, in order. ``end``: the last ``seq`` that was checked."""

    events: list[StoredEvent]
    end: int


class Topic:
    """See the module. ``seq`` is the last one that was assigned; ``epoch`` names this life of the topic.

    ``ring`` has the newest events, without a missing ``seq``: all that are kept in memory. ``first`` is the oldest
    that the journal holds, 0 if it holds none itself. ``stored_bytes``: what it holds of the topic. ``expiring``: some
    events have a time to live. ``uses`` changes with each subscription that may be the only one. ``bytes``: those of
    all events that were added. ``successor``: the topic that goes on with this one in another epoch. ``telling``: some
    members do not know yet where the topic goes on, see the Renewal.
    """

    __slots__ = ("_flush_at", "_in_pieces", "_pending", "bytes", "epoch", "expiring", "first", "history", "lanes",
                 "log", "name", "options", "ring", "seq", "stored_bytes", "successor", "telling", "uses")  # fmt: skip

    def __init__(self, name: str, epoch: str, options: TopicOptions, log: TopicLog, *, ring_size: int) -> None:
        assert options.history is not None, "the Broker fills in its default"
        self.name = name
        self.epoch = epoch
        self.options = options
        self.history: int = options.history
        self.log = log
        self.seq = 0
        self.first = 0
        self.stored_bytes = 0
        self.expiring = options.ttl_sec is not None
        self.ring = Ring(ring_size)
        self.lanes: tuple[Lane, ...] = ()
        self.uses = 0
        self.bytes = 0
        self.successor: Topic | None = None
        self.telling = False
        self._pending: list[StoredEvent] = []
        self._in_pieces = False  # they are delivered piece by piece
        self._flush_at = BATCH_BYTES  # bytes of all events, at which a batch is delivered within the tick

    def restore(self, *, seq: int, newest: Sequence[StoredEvent], expiring: bool) -> None:
        """Continue from the state in the journal."""
        self.seq = seq
        self.expiring = self.expiring or expiring
        for event in newest:
            self.ring.append(event)

    @property
    def latest(self) -> Topic:
        """This topic, or the last one that goes on with it."""
        topic = self
        while topic.successor is not None:
            topic = topic.successor
        return topic

    def go_on_as(self, topic: Topic) -> None:
        """Give all members to ``topic``, the next life."""
        self.successor = topic
        for lane in self.lanes:
            lane.topic = topic
            topic.add_lane(lane)
        self.lanes = ()

    def skip(self, until: int) -> Slots:
        """Go on after ``until``: what is missing before it is lost. Returns what the ring had."""
        removed = self.ring.skip(until)
        self.seq = until
        return removed

    def trim(self, first: int, size: int) -> None:
        """The journal holds the events from ``first`` on, ``size`` bytes in all."""
        self.first, self.stored_bytes = first, size

    @property
    def has_pending(self) -> bool:
        """True if events wait for :meth:`flush`, or the news that events are lost."""
        return self.telling or bool(self._pending)

    @property
    def delivered(self) -> int:
        """The last ``seq`` that was given to the lanes."""
        return self._pending[0].seq - 1 if self._pending else self.seq

    @property
    def subscribers(self) -> int:
        return sum(lane.size for lane in self.lanes)

    @property
    def oldest(self) -> int:
        """The ``seq`` of the oldest kept event; one above the newest if there is none."""
        if self.first:
            return max(self.first, self.seq - self.history + 1)
        return self.seq - len(self.ring) + 1

    def add(self, events: Sequence[StoredEvent]) -> bool:
        """Keep the next events and mark them for delivery. Returns True if they are the first that wait for
        :meth:`flush`.
        """
        size, ring = self.bytes, self.ring
        if ring.full:  # here and not in a method: this is the path of each publish, and a call costs 0.05 µs
            slots, base, capacity = ring.slots, ring.base, ring.capacity
            for event in events:
                slots[(event.seq - base) % capacity] = event
                size += len(event.text)
            ring.newest = event.seq
        else:
            for event in events:
                ring.append(event)
                size += len(event.text)
        self.seq, self.bytes = event.seq, size
        if not self.lanes:
            return False
        is_first = not self._pending
        self._pending += events
        if size >= self._flush_at:
            self.flush_piece()
            return False
        return is_first

    def add_list(self, events: Sequence[StoredEvent]) -> bool:
        """Add a list of any length, like :meth:`add`; its events wait for :meth:`flush_piece`."""
        if self.lanes and not self._in_pieces:
            self._in_pieces = True
            self._flush_at += PENDING_BYTES - BATCH_BYTES
        return any([self.add([event]) for event in events])

    def flush_piece(self) -> bool:
        """Deliver the pending events: all of them, or a batch if a list waits. Returns True if some still wait.

        To write a list of 1 MiB to 500 subscribers takes 50 ms.
        """
        more = self._in_pieces and (count := self._count_batch()) < len(self._pending)
        if more:
            pending, self._pending = self._pending[:count], self._pending[count:]
            self._flush_at += sum(len(event.text) for event in pending)
        else:
            pending, self._pending = self._pending, []
            self._in_pieces = False
            self._flush_at = self.bytes + BATCH_BYTES
        if pending:
            for lane in self.lanes:
                lane.deliver(pending)
        return more

    def flush(self) -> None:
        """Deliver all pending events. Must be called before a change of membership, to keep the order."""
        self._in_pieces = False
        self.flush_piece()

    def _count_batch(self) -> int:
        """The number of pending events in the next batch."""
        size = 0
        for count, event in enumerate(self._pending, 1):
            size += len(event.text)
            if size >= BATCH_BYTES:
                return count
        return len(self._pending)

    def find_lane(self, encoding: Encoding, matcher: Matcher | None) -> Lane | None:
        """The lane of the subscribers with this encoding and this filter, if there is one."""
        for lane in self.lanes:
            if lane.encoding is encoding and lane.matcher is matcher:
                return lane
        return None

    def add_lane(self, lane: Lane) -> None:
        """Add a lane. Lanes without a filter come first: they need not wait for evaluations."""
        self.uses += 1
        if not self.lanes:  # earlier events waited for nobody
            self._flush_at = self.bytes + BATCH_BYTES
        self.lanes = (lane, *self.lanes) if lane.matcher is None else (*self.lanes, lane)

    def end_empty_lanes(self) -> None:
        self.lanes = tuple(lane for lane in self.lanes if lane.size)

    def remove_expired(self, now: float, more: int = 0) -> None:
        """Remove the oldest events that have expired. One that expires before an older one waits for that.

        ``more``: the number of events that are added at once, if it is not one. So all are soon gone.
        """
        self.ring.remove_expired(now, REMOVED_AT_ONCE + more)

    def in_ring(self, after: int) -> bool:
        """True if the ring holds everything that is kept of what follows ``after``."""
        return max(after, self.oldest - 1) >= self.seq - len(self.ring)

    def page(self, after: int, limit: int, now: float) -> Page:
        """The unexpired ones among the ``limit`` events of the ring that follow ``after``."""
        found = self.ring.after(after, limit)
        end = found[-1].seq if found else self.seq
        return Page([event for event in found if event.expires > now] if self.expiring else found, end)
