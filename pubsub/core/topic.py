"""A topic: its ring of kept events, its ``seq`` and ``epoch``, and the lanes that carry new events to subscribers.

Only the Broker and the journals call it. No I/O, and no opinion on what a subscriber can't take: that is the Outbox's.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from pubsub.core.ring import Ring
from pubsub.protocol.requests import TopicOptions

if TYPE_CHECKING:
    from pubsub.core.catchup import CatchUp
    from pubsub.core.journal import Journal
    from pubsub.core.outbox import Outbox

log = logging.getLogger(__name__)

# A batch is written as soon as it has so many bytes: it bounds what waits for the end of the tick, and is the grain in
# which a lagging subscriber's queue holds on to memory.
BATCH_BYTES: Final = 64 * 1024
LANES_IN_A_TURN: Final = 2000  # that one subscriber leaves, or tells whether it lags: 0.6 µs each
PURGED_AT_ONCE: Final = 200  # expired events that a publish lets go of: it adds one, so they are soon all gone

Write = Callable[[bytes], None]


def random_epoch() -> str:
    """A name for one life of a topic: 40 random bits."""
    return secrets.token_hex(5)


class StoredEvent(Struct, frozen=True, gc=False):
    """An event as it is kept and sent: its place in the topic and the finished frame, shared by all who get it.

    ``expires``: when it is not to be delivered any more, by the monotonic clock.
    """

    seq: int
    frame: bytes
    expires: float = inf


class Batch(Struct, frozen=True):
    """Events of one topic that are written together, without a hole in ``seq``; ``frames`` is all of them joined."""

    topic: Topic
    events: list[StoredEvent]
    frames: bytes


def make_batches(topic: Topic, events: Iterable[StoredEvent]) -> Iterator[Batch]:
    """``events`` in batches of about BATCH_BYTES; a new one begins at each hole."""
    gathered: list[StoredEvent] = []
    size = 0
    for event in events:
        if gathered and (size >= BATCH_BYTES or event.seq != gathered[-1].seq + 1):
            yield make_batch(topic, gathered)
            gathered, size = [], 0
        gathered.append(event)
        size += len(event.frame)
    if gathered:
        yield make_batch(topic, gathered)


def make_batch(topic: Topic, events: list[StoredEvent]) -> Batch:
    """One batch; a lone event's frame is not copied."""
    frames = events[0].frame if len(events) == 1 else b"".join([event.frame for event in events])
    return Batch(topic, events, frames)


class Page(NamedTuple):
    """Events of a ring that have not expired, in order; ``end``: the ``seq`` up to which it was looked at."""

    events: list[StoredEvent]
    end: int


class Lane:
    """Subscribers of a topic that get the same bytes. One write each for a batch, with no Python code in between.

    Who is blocked gets the batch into its Outbox instead, and is back among the ready once its queue is empty. Who
    still reads older messages from the journal gets nothing here, until its CatchUp has it join.
    """

    __slots__ = ("_arriving", "_lagging", "_ready", "_writes", "size")

    def __init__(self) -> None:
        self._ready: dict[Outbox, Write] = {}
        self._lagging: dict[Outbox, None] = {}
        self._arriving: dict[Outbox, CatchUp] | None = None
        self._writes: tuple[Write, ...] | None = ()
        self.size = 0

    @property
    def outboxes(self) -> list[Outbox]:
        return [*self._ready, *self._lagging, *(self._arriving or ())]

    def join(self, outbox: Outbox) -> None:
        """Take ``outbox`` in, where its state puts it; twice is once."""
        if self._arriving:
            self._arriving.pop(outbox, None)
        self._place(outbox)

    def arrive(self, outbox: Outbox, catch_up: CatchUp) -> None:
        """Take ``outbox`` in, on its way to what is live; an earlier way of its own ends."""
        self.leave(outbox)
        if self._arriving is None:
            self._arriving = {}
        self._arriving[outbox] = catch_up
        self._changed()

    def is_arriving(self, outbox: Outbox, catch_up: CatchUp) -> bool:
        return self._arriving is not None and self._arriving.get(outbox) is catch_up

    def move(self, outbox: Outbox) -> None:
        """The state of a subscriber has changed, if it is one, and not on its way yet."""
        if outbox in self._ready or outbox in self._lagging:
            self._place(outbox)

    def leave(self, outbox: Outbox) -> None:
        self._ready.pop(outbox, None)
        self._lagging.pop(outbox, None)
        if self._arriving:
            self._arriving.pop(outbox, None)
        self._changed()

    def _place(self, outbox: Outbox) -> None:
        if outbox.lagging:
            self._lagging[outbox] = None
            self._ready.pop(outbox, None)
        else:
            self._ready[outbox] = outbox.write
            self._lagging.pop(outbox, None)
        self._changed()

    def _changed(self) -> None:
        self.size = len(self._ready) + len(self._lagging) + len(self._arriving or ())
        self._writes = None

    def deliver(self, batch: Batch) -> None:
        if self._writes is None:
            self._writes = tuple(self._ready.values())
        frames = batch.frames
        lagging = list(self._lagging)  # before the writes: who blocks at this batch has it already
        writes, offers = iter(self._writes), iter(lagging)
        while True:
            try:
                for write in writes:
                    write(frames)
                for outbox in offers:
                    outbox.offer(batch)
                return
            except Exception:  # the others still have theirs to come
                log.exception("Internal error at a subscriber of topic %(topic)s", {"topic": batch.topic.name})


class Topic:
    """See the module. ``seq`` is the last one given out; ``epoch`` names this life of the topic.

    ``ring`` holds the newest events, without a hole in ``seq``: all that are kept in memory. ``first`` is the oldest
    that the journal holds; where it holds none (memory) it is 0. ``expiring``: some events are only kept for a time.
    """

    __slots__ = ("_pending", "_pending_bytes", "epoch", "expiring", "first", "history", "journal", "lane", "name",
                 "number", "options", "ring", "seq", "stored_bytes")  # fmt: skip

    def __init__(self, name: str, epoch: str, options: TopicOptions, journal: Journal, *, ring_size: int) -> None:
        assert options.history is not None, "the Broker fills in its default"
        self.name = name
        self.epoch = epoch
        self.options = options
        self.history: int = options.history
        self.journal = journal
        self.number = 0  # what the journal calls it
        self.seq = 0
        self.first = 0
        self.stored_bytes = 0  # what the journal holds of it
        self.expiring = options.ttl_sec is not None
        self.ring = Ring(min(options.history, ring_size))
        self.lane = Lane()
        self._pending: list[StoredEvent] = []
        self._pending_bytes = 0

    @property
    def subscribers(self) -> int:
        return self.lane.size

    @property
    def oldest(self) -> int:
        """The ``seq`` of the oldest event that is kept; one above the newest where none is."""
        if self.first:
            return max(self.first, self.seq - self.history + 1)
        return self.seq - len(self.ring) + 1

    def add(self, event: StoredEvent) -> bool:
        """Keep the event and set it out for delivery; whether it is the first that waits for :meth:`flush`."""
        self.seq = seq = event.seq
        ring = self.ring
        if ring.full:  # here and not in a method: this is the path of each publish, and a call costs 0.1 µs of 5
            ring.newest = seq
            ring.slots[(seq - ring.base) % ring.capacity] = event
        else:
            ring.append(event)
        if not self.lane.size:
            return False
        self._pending.append(event)
        self._pending_bytes += len(event.frame)
        if self._pending_bytes >= BATCH_BYTES:
            self.flush()
            return False
        return len(self._pending) == 1

    def flush(self) -> None:
        """Deliver what waits. Must come before any change of who is subscribed, so that order holds."""
        if self._pending:
            batch = make_batch(self, self._pending)
            self._pending = []
            self._pending_bytes = 0
            self.lane.deliver(batch)

    def purge(self, now: float) -> None:
        """Let go of the oldest events where they have expired; what expired before its turn waits for it."""
        self.expiring = True
        self.ring.purge(now, PURGED_AT_ONCE)

    def in_ring(self, after: int) -> bool:
        """Whether the ring holds everything that is kept of what follows ``after``."""
        return max(after, self.oldest - 1) >= self.seq - len(self.ring)

    def page(self, after: int, limit: int, now: float) -> Page:
        """What has not expired of the ``limit`` events of the ring that follow ``after``."""
        found = self.ring.after(after, limit)
        end = found[-1].seq if found else self.seq
        return Page([event for event in found if event.expires > now] if self.expiring else found, end)
