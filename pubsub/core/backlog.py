"""The queue of one subscriber whose socket takes nothing: its order, its overflow policies and its gaps.

A queue exists as long as something waits in it. It never writes.
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
    """The options that all outboxes of a server share. ``limit``: the most events that wait in one outbox.

    ``take_turn(work)`` calls ``work`` after other clients have been served.
    """

    limit: int
    clock: Clock
    take_turn: Callable[[Callable[[], None]], None] = at_once
    encoding: Encoding = WEBSOCKET_TEXT
    losses: Losses = field(default_factory=Losses)


class QueuedBatch(Struct):
    """A batch without its first ``skipped`` events, which were dropped. ``replayed``: it does not count to the limit.

    A batch that was dropped as a whole is empty, and keeps its place until it is removed.
    """

    batch: Batch
    skipped: int
    replayed: bool


class Notice(Struct, frozen=True):
    """A message, behind the events that wait, and the gap, of its topic if it has one. It is never dropped."""

    topic: Source | None
    text: bytes


class Gap(Struct):
    """Messages of one topic that a subscriber does not get: ``count`` of those from the first ``seq`` to the last."""

    topic: Source
    from_seq: int
    to_seq: int
    count: int

    def text(self, clock: Clock) -> bytes:
        """The info ``dropped`` as JSON."""
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
    """The one event that waits, of a topic with the policy ``latest``, and the gap before it.

    The gap is not one of the topic's next event: a replay may wait too.
    """

    topic: Source
    event: StoredEvent
    gap: Gap | None = None


Entry = QueuedBatch | Notice | Gap | Newest


class Backlog:
    """See the module. A topic's ``overflow`` says which of its events are dropped when the queue is full.

    Events are queued in batches: a batch costs one step, however many events it has. ``overflowed``: the queue was full
    when a topic with the policy ``disconnect`` had an event.
    """

    __slots__ = (
        "_client_id",
        "_droppable",
        "_emptied",
        "_gaps",
        "_newest",
        "_options",
        "_queue",
        "_queued",
        "_replayed",
        "_tails",
        "dropped",
        "overflowed",
    )  # fmt: skip

    def __init__(self, options: OutboxOptions, client_id: str) -> None:
        self.dropped = 0
        self.overflowed = False
        self._options = options
        self._client_id = client_id
        self._queue: deque[Entry] = deque()
        self._droppable: deque[QueuedBatch] = deque()  # batches in the queue that may be dropped
        self._emptied = 0  # batches in the queue that are empty
        self._queued = 0  # events in batches
        self._replayed = 0  # of them in replays, which do not count to the limit
        self._gaps: dict[Source, Gap] = {}  # to be sent before the next event of the topic
        self._tails: dict[Source, Gap] = {}  # the last entry of a topic in the queue, which can still grow
        self._newest: dict[Source, Newest] = {}

    def __bool__(self) -> bool:
        """True if anything waits."""
        return bool(self._queue or self._gaps)

    @property
    def queued(self) -> int:
        """The number of events that wait."""
        return self._queued + len(self._newest)

    @property
    def full(self) -> bool:
        return self._excess >= 0

    def offer(self, batch: Batch) -> None:
        """Queue new events, and drop those beyond the limit."""
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
                    self._options.losses.lose(self._client_id, batch.topic, batch.events, Loss.SLOW_CONSUMER)
                else:
                    self._append(batch)

    def replay(self, batch: Batch) -> None:
        """Queue kept events. However many they are, none is dropped for another of them."""
        self._replayed += len(batch.events)
        self._append(batch, replayed=True)

    def notify(self, topic: Source | None, text: bytes) -> None:
        self._queue.append(Notice(topic, text))

    def tell(self, gap: Gap) -> None:
        """Queue a gap of messages that are no longer kept."""
        self._queue.append(gap)

    def take(self) -> bytes:
        """Take out the next bytes to write; empty if nothing waits any more."""
        while self._queue:
            if encoded := self._take(self._queue.popleft()):
                return encoded
        return b"".join([self._take_gap(topic) for topic in list(self._gaps)])

    def give_up(self, reason: Loss) -> None:
        """Lose all events that wait. The subscriber gets no gap for them, so they do not count as dropped."""
        for entry in self._queue:
            match entry:
                case QueuedBatch() if not _is_empty(entry):
                    self._options.losses.lose(
                        self._client_id, entry.batch.topic, entry.batch.events[entry.skipped :], reason
                    )
                case Newest():
                    self._options.losses.lose(self._client_id, entry.topic, [entry.event], reason)

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
        """Drop the excess from the oldest batches whose topics allow it; everything else keeps its place.

        Dropped events of a replay did not count to the limit, so the excess may remain until the next offer.
        """
        excess = self._excess
        while excess > 0 and self._droppable:
            excess -= self._drop(self._droppable[0], excess)
        self._remove_empty()

    def _drop(self, entry: QueuedBatch, most: int) -> int:
        """Drop up to ``most`` events of the first droppable batch; returns their number."""
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

    def _remove_empty(self) -> None:
        """Remove empty batches: at the front at once, elsewhere when more than half of the queue is empty."""
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
        """Keep only the newest event of the topic; it does not count to the limit."""
        *missed, newest = batch.events
        waiting = self._newest.get(batch.topic)
        if waiting is None:
            self._newest[batch.topic] = waiting = Newest(batch.topic, newest)
            self._queue.append(waiting)
        else:
            missed.insert(0, waiting.event)
            waiting.event = newest
        if missed:
            if waiting.gap is None:
                waiting.gap = Gap(batch.topic, missed[0].seq, 0, 0)
            waiting.gap.to_seq = newest.seq - 1
            waiting.gap.count += len(missed)
            self._lose(batch.topic, missed, Loss.OVERFLOW)

    def _miss(self, topic: Source, from_seq: int, to_seq: int, count: int) -> None:
        """Widen the topic's gap, or begin one. All messages missed before its next event become one gap."""
        gap = self._gaps.get(topic)
        if gap is None:
            self._gaps[topic] = Gap(topic, from_seq, to_seq, count)
        else:
            gap.from_seq, gap.to_seq = min(gap.from_seq, from_seq), max(gap.to_seq, to_seq)
            gap.count += count

    def _take_gap(self, topic: Source | None) -> bytes:
        gap = None if topic is None else self._gaps.pop(topic, None)
        return b"" if gap is None else self._options.encoding.message(gap.text(self._options.clock))

    def _take(self, entry: Entry) -> bytes:
        """Encode an entry. A gap is empty here: it is sent before the next event of its topic."""
        match entry:
            case QueuedBatch():
                return self._take_batch(entry)
            case Notice():
                return self._take_gap(entry.topic) + self._options.encoding.message(entry.text)
            case Gap():
                self._tails.pop(entry.topic, None)
                self._miss(entry.topic, entry.from_seq, entry.to_seq, entry.count)
                return b""
            case Newest():
                del self._newest[entry.topic]
                if (gap := entry.gap) is not None:
                    self._miss(entry.topic, gap.from_seq, gap.to_seq, gap.count)
                return self._encode_unexpired(entry.topic, [entry.event])

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
        """Encode events after the topic's gap. ``encoded``: the events, if they are encoded already."""
        self._queued -= len(events)
        if topic.expiring:
            return self._encode_unexpired(topic, events)
        return self._take_gap(topic) + (encoded or self._options.encoding.events(topic, events))

    def _encode_unexpired(self, topic: Source, events: Sequence[StoredEvent]) -> bytes:
        """Encode the events that have not expired, each gap before the event that follows it."""
        now = self._options.clock.monotonic()
        parts, run, expired = list[bytes](), list[StoredEvent](), list[StoredEvent]()
        for event in events:
            if event.expires > now:
                run.append(event)
                continue
            if run:
                parts += [self._take_gap(topic), self._options.encoding.events(topic, run)]
                run = []
            self._miss(topic, event.seq, event.seq, 1)
            expired.append(event)
        if run:
            parts += [self._take_gap(topic), self._options.encoding.events(topic, run)]
        if expired:
            self._lose(topic, expired, Loss.EXPIRED)
        return b"".join(parts)

    def _lose(self, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        self.dropped += len(events)
        self._options.losses.lose(self._client_id, topic, events, reason)


def _nothing_of(topic: Source) -> Batch:
    return Batch(topic, (), b"", 0, 0)


def _is_empty(entry: Entry) -> bool:
    return isinstance(entry, QueuedBatch) and not entry.batch.events
