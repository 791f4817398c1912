"""What waits for one subscriber while its socket takes nothing: in which order, what is dropped, and what it is told.

A plain queue that lives as long as something waits in it. Nothing here writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct, field

from pubsub.core.clock import Clock
from pubsub.core.event import WEBSOCKET_TEXT, Batch, Encoding, Source, StoredEvent, make_batch
from pubsub.core.losses import Loss, Losses
from pubsub.protocol.replies import Info, encode


def at_once(work: Callable[[], None]) -> None:
    work()


class OutboxOptions(Struct, frozen=True):
    """What all outboxes of a server share. ``limit`` is the most events that wait in one of them.

    ``take_turn(work)`` calls ``work`` when other clients have been served.
    """

    limit: int
    clock: Clock
    take_turn: Callable[[Callable[[], None]], None] = at_once
    encoding: Encoding = WEBSOCKET_TEXT
    losses: Losses = field(default_factory=Losses)


class QueuedBatch(Struct):
    """A batch without its first ``skipped`` events, which were dropped. ``replayed``: it has room beyond the limit.

    One that was dropped as a whole is empty, and keeps its place until it is swept.
    """

    batch: Batch
    skipped: int
    replayed: bool


class Notice(Struct, frozen=True):
    """A message about a topic, behind the events of it that wait; never dropped."""

    topic: Source
    text: bytes


class Gap(Struct):
    """Messages of one topic that a subscriber won't get: ``count`` of those from the first ``seq`` to the last."""

    topic: Source
    from_seq: int
    to_seq: int
    count: int

    def text(self, clock: Clock) -> bytes:
        """The ``dropped`` that tells of it."""
        info = Info(
            topic=self.topic.name,
            msg="dropped",
            count=self.count,
            from_seq=self.from_seq,
            to_seq=self.to_seq,
            ts=clock.timestamp(),
        )
        return encode(info)


class Newest(Struct):
    """The one event that waits of a topic with the policy ``latest``."""

    topic: Source
    event: StoredEvent


Entry = QueuedBatch | Notice | Gap | Newest


class Backlog:
    """See the module. A topic's ``overflow`` says which of its own events make room when the queue is full.

    Events are queued by the batch: for a subscriber that lags, a batch costs one step however many events it has.
    ``overflowed``: it came to its limit at a topic whose policy is to disconnect.
    """

    __slots__ = ("_droppable", "_emptied", "_gaps", "_newest", "_options", "_queue", "_queued", "_replayed",
                 "_tails", "dropped", "overflowed")  # fmt: skip

    def __init__(self, options: OutboxOptions) -> None:
        self.dropped = 0
        self.overflowed = False
        self._options = options
        self._queue: deque[Entry] = deque()
        self._droppable: deque[QueuedBatch] = deque()  # those of them that may make room
        self._emptied = 0  # batches in the queue that are empty
        self._queued = 0  # events in batches
        self._replayed = 0  # of them in a replay, which has room beyond the limit
        self._gaps: dict[Source, Gap] = {}  # to be told before what comes next of a topic
        self._tails: dict[Source, Gap] = {}  # at the end of a topic's part of the queue, and still growing
        self._newest: dict[Source, Newest] = {}

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queue or self._gaps)

    @property
    def queued(self) -> int:
        """Events that wait."""
        return self._queued + len(self._newest)

    @property
    def full(self) -> bool:
        return self._excess >= 0

    def offer(self, batch: Batch) -> None:
        """Queue new events, and drop what is too much."""
        match batch.topic.options.overflow:
            case "drop_oldest":
                self._append(batch)
                self._drop_oldest()
            case "drop_newest":
                self._append_what_fits(batch)
            case "latest":
                self._replace(batch)
            case "disconnect":
                self.overflowed = self.overflowed or self._excess + len(batch.events) > 0
                if self.overflowed:
                    self._options.losses.lose(batch.topic, batch.events, Loss.SLOW_CONSUMER)
                else:
                    self._append(batch)

    def replay(self, batch: Batch) -> None:
        """Queue kept events. However many they are, none is dropped to make room for another of them."""
        self._replayed += len(batch.events)
        self._append(batch, replayed=True)

    def notify(self, topic: Source, text: bytes) -> None:
        self._queue.append(Notice(topic, text))

    def tell(self, gap: Gap) -> None:
        """Queue the news of messages that are not to be had."""
        self._queue.append(gap)

    def take(self) -> bytes:
        """The next bytes to be written; empty when nothing waits any more."""
        while self._queue:
            if encoded := self._take(self._queue.popleft()):
                return encoded
        return b"".join([self._told(topic) for topic in list(self._gaps)])

    def give_up(self, reason: Loss) -> None:
        """The subscriber gets nothing of what waits. It is not told, so nothing of it counts as dropped."""
        for entry in self._queue:
            match entry:
                case QueuedBatch() if not _is_empty(entry):
                    self._options.losses.lose(entry.batch.topic, entry.batch.events[entry.skipped :], reason)
                case Newest():
                    self._options.losses.lose(entry.topic, [entry.event], reason)

    @property
    def _excess(self) -> int:
        return self._queued - self._options.limit - self._replayed

    def _append(self, batch: Batch, *, replayed: bool = False) -> None:
        self._tails.pop(batch.topic, None)
        entry = QueuedBatch(batch, 0, replayed)
        self._queue.append(entry)
        if batch.topic.options.overflow == "drop_oldest":
            self._droppable.append(entry)
        self._queued += len(batch.events)

    def _drop_oldest(self) -> None:
        """Drop what is too much from the oldest batches whose topics allow that; all else keeps its place.

        A replay's events take the room that they had beyond the limit with them: that is felt at the next offer.
        """
        excess = self._excess
        while excess > 0 and self._droppable:
            excess -= self._drop(self._droppable[0], excess)
        self._sweep()

    def _drop(self, entry: QueuedBatch, most: int) -> int:
        """Drop up to ``most`` events of the first that may be dropped; how many those were."""
        topic, events, first = entry.batch.topic, entry.batch.events, entry.skipped
        end = min(len(events), first + most)
        count = end - first
        to_seq = entry.batch.last if end == len(events) else events[end - 1].seq
        self._miss(topic, events[first].seq if first else entry.batch.first, to_seq, count)
        self._queued -= count
        self._replayed -= count * entry.replayed
        self._lose(topic, events[first:end], Loss.OVERFLOW)
        entry.skipped = end
        if end == len(events):
            self._droppable.popleft()
            entry.batch, entry.skipped = _nothing_of(topic), 0
            self._emptied += 1
        return count

    def _sweep(self) -> None:
        """Forget empty batches: at the front at once, elsewhere when they are the most of the queue."""
        while self._queue and _is_empty(self._queue[0]):
            self._queue.popleft()
            self._emptied -= 1
        if 2 * self._emptied > len(self._queue):
            self._queue = deque(entry for entry in self._queue if not _is_empty(entry))
            self._emptied = 0

    def _append_what_fits(self, batch: Batch) -> None:
        room = max(0, -self._excess)
        fitting, rest = batch.events[:room], batch.events[room:]
        if fitting:
            self._append(make_batch(batch.topic, fitting) if rest else batch)
        if rest:
            self._widen_tail(batch.topic, batch.last, rest)

    def _widen_tail(self, topic: Source, to_seq: int, events: Sequence[StoredEvent]) -> None:
        tail = self._tails.get(topic)
        if tail is None:
            tail = self._tails[topic] = Gap(topic, events[0].seq, 0, 0)
            self._queue.append(tail)
        tail.to_seq = to_seq
        tail.count += len(events)
        self._lose(topic, events, Loss.OVERFLOW)

    def _replace(self, batch: Batch) -> None:
        """Of this topic only the newest counts, and that is outside the limit."""
        *missed, newest = batch.events
        waiting = self._newest.get(batch.topic)
        if waiting is None:
            self._newest[batch.topic] = waiting = Newest(batch.topic, newest)
            self._queue.append(waiting)
        else:
            missed.insert(0, waiting.event)
            waiting.event = newest
        if missed:
            self._miss(batch.topic, missed[0].seq, newest.seq - 1, len(missed))
            self._lose(batch.topic, missed, Loss.OVERFLOW)

    def _miss(self, topic: Source, from_seq: int, to_seq: int, count: int) -> None:
        """Widen the topic's gap, or begin one. Messages missed before its next event are one gap in the end."""
        gap = self._gaps.get(topic)
        if gap is None:
            self._gaps[topic] = Gap(topic, from_seq, to_seq, count)
        else:
            gap.from_seq, gap.to_seq = min(gap.from_seq, from_seq), max(gap.to_seq, to_seq)
            gap.count += count

    def _told(self, topic: Source) -> bytes:
        gap = self._gaps.pop(topic, None)
        return b"" if gap is None else self._options.encoding.message(gap.text(self._options.clock))

    def _take(self, entry: Entry) -> bytes:
        """What an entry comes to: nothing yet for a gap, which is told before what comes next of its topic."""
        match entry:
            case QueuedBatch():
                return self._take_batch(entry)
            case Notice():
                return self._told(entry.topic) + self._options.encoding.message(entry.text)
            case Gap():
                self._tails.pop(entry.topic, None)
                self._miss(entry.topic, entry.from_seq, entry.to_seq, entry.count)
                return b""
            case Newest():
                del self._newest[entry.topic]
                return self._alive(entry.topic, [entry.event])

    def _take_batch(self, entry: QueuedBatch) -> bytes:
        if _is_empty(entry):
            self._emptied -= 1
            return b""
        if self._droppable and self._droppable[0] is entry:
            self._droppable.popleft()
        batch, skipped = entry.batch, entry.skipped
        self._replayed -= (len(batch.events) - skipped) * entry.replayed
        return self._take_events(batch.topic, batch.events[skipped:], b"" if skipped else batch.encoded)

    def _take_events(self, topic: Source, events: Sequence[StoredEvent], encoded: bytes) -> bytes:
        """``encoded`` is all of the events; empty where that is still to be done."""
        self._queued -= len(events)
        if topic.expiring:
            return self._alive(topic, events)
        return self._told(topic) + (encoded or self._options.encoding.events(events))

    def _alive(self, topic: Source, events: Sequence[StoredEvent]) -> bytes:
        """Encode those that have not expired, each gap before what follows it."""
        now = self._options.clock.monotonic()
        parts, run, expired = list[bytes](), list[StoredEvent](), list[StoredEvent]()
        for event in events:
            if event.expires > now:
                run.append(event)
                continue
            if run:
                parts += [self._told(topic), self._options.encoding.events(run)]
                run = []
            self._miss(topic, event.seq, event.seq, 1)
            expired.append(event)
        if run:
            parts += [self._told(topic), self._options.encoding.events(run)]
        if expired:
            self._lose(topic, expired, Loss.EXPIRED)
        return b"".join(parts)

    def _lose(self, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        self.dropped += len(events)
        self._options.losses.lose(topic, events, reason)


def _nothing_of(topic: Source) -> Batch:
    return Batch(topic, (), b"", 0, 0)


def _is_empty(entry: Entry) -> bool:
    return isinstance(entry, QueuedBatch) and not entry.batch.events
