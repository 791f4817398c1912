"""A topic: its ring of kept events, its ``seq`` and ``epoch``, and the lanes that carry new events to subscribers.

Only the Broker calls it. No I/O, and no opinion on what a subscriber can't take: that is the Outbox's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from pubsub.journal import Journal
    from pubsub.outbox import Outbox

# A batch is written as soon as it has so many bytes: it bounds what waits for the end of the tick, and is the grain in
# which a lagging subscriber's queue holds on to memory.
BATCH_BYTES: Final = 64 * 1024

Write = Callable[[bytes], None]


class StoredEvent(Struct, frozen=True, gc=False):
    """An event as it is kept and sent: its place in the topic and the finished frame, shared by all who get it."""

    seq: int
    frame: bytes


class Batch(Struct, frozen=True):
    """Events of one topic that are written together, in the order of ``seq``; ``frames`` is all of them joined."""

    topic: str
    events: list[StoredEvent]
    frames: bytes


def make_batches(topic: str, events: Iterable[StoredEvent]) -> Iterable[Batch]:
    """``events`` in batches of about BATCH_BYTES."""
    gathered: list[StoredEvent] = []
    size = 0
    for event in events:
        gathered.append(event)
        size += len(event.frame)
        if size >= BATCH_BYTES:
            yield make_batch(topic, gathered)
            gathered, size = [], 0
    if gathered:
        yield make_batch(topic, gathered)


def make_batch(topic: str, events: list[StoredEvent]) -> Batch:
    """One batch; a lone event's frame is not copied."""
    frames = events[0].frame if len(events) == 1 else b"".join([event.frame for event in events])
    return Batch(topic, events, frames)


class Lane:
    """Subscribers of a topic that get the same bytes. One write each for a batch, with no Python code in between.

    Who is blocked gets the batch into its Outbox instead, and is back among the ready once its queue is empty.
    """

    __slots__ = ("_lagging", "_ready", "_writes", "size")

    def __init__(self) -> None:
        self._ready: dict[Outbox, Write] = {}
        self._lagging: dict[Outbox, None] = {}
        self._writes: tuple[Write, ...] | None = ()
        self.size = 0

    @property
    def outboxes(self) -> list[Outbox]:
        return [*self._ready, *self._lagging]

    def join(self, outbox: Outbox) -> None:
        """Take ``outbox`` in, where its state puts it; twice is once."""
        if outbox.lagging:
            self._lagging[outbox] = None
            self._ready.pop(outbox, None)
        else:
            self._ready[outbox] = outbox.write
            self._lagging.pop(outbox, None)
        self._changed()

    def leave(self, outbox: Outbox) -> None:
        self._ready.pop(outbox, None)
        self._lagging.pop(outbox, None)
        self._changed()

    def _changed(self) -> None:
        self.size = len(self._ready) + len(self._lagging)
        self._writes = None

    def deliver(self, batch: Batch) -> None:
        if self._writes is None:
            self._writes = tuple(self._ready.values())
        frames = batch.frames
        lagging = list(self._lagging)  # before the writes: who blocks at this batch has it already
        for write in self._writes:
            write(frames)
        for outbox in lagging:
            outbox.offer(batch)


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """What a topic's maker chose. ``history``: messages kept for replay."""

    history: int


class Topic:
    """See the module. ``seq`` is the last one given out; ``epoch`` names this life of the topic."""

    __slots__ = ("_pending", "_pending_bytes", "epoch", "journal", "lane", "name", "options", "ring", "seq")

    def __init__(self, name: str, epoch: str, options: TopicOptions, journal: Journal) -> None:
        self.name = name
        self.epoch = epoch
        self.options = options
        self.journal = journal
        self.seq = 0
        self.ring: deque[StoredEvent] = deque(maxlen=options.history)
        self.lane = Lane()
        self._pending: list[StoredEvent] = []
        self._pending_bytes = 0

    @property
    def subscribers(self) -> int:
        return self.lane.size

    def add(self, event: StoredEvent) -> bool:
        """Keep the event and set it out for delivery; whether it is the first that waits for :meth:`flush`."""
        self.seq = event.seq
        self.ring.append(event)
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
            batch = make_batch(self.name, self._pending)
            self._pending = []
            self._pending_bytes = 0
            self.lane.deliver(batch)

    def last(self, count: int) -> list[StoredEvent]:
        """The newest ``count`` events that are kept, oldest first."""
        return list(islice(self.ring, max(0, len(self.ring) - count), None))

    def after(self, seq: int, limit: int) -> list[StoredEvent]:
        """The oldest ``limit`` kept events of those that follow ``seq``."""
        skipped = max(0, seq - self.seq + len(self.ring))
        return list(islice(self.ring, skipped, skipped + limit))
