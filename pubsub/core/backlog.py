"""The queue of one subscriber whose socket takes nothing: its order, its overflow policies and its gaps.

A queue exists as long as something waits in it. It never writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby

from msgspec import Struct, field

from pubsub.core.clock import Clock
from pubsub.core.counts import MessageCount
from pubsub.core.entries import Entry, Gap, Newest, Notice, QueuedBatch, is_empty, nothing_of
from pubsub.core.event import WEBSOCKET_TEXT, Batch, Encoding, Source, StoredEvent, make_batch
from pubsub.core.losses import Loss, Losses
from pubsub.core.trail import Trail


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
    delivered: MessageCount = field(default_factory=MessageCount)


class Backlog:
    """See the module. A topic's ``overflow`` says which of its events are dropped when the queue is full.

    Events are queued in batches: a batch costs one step, however many events it has. ``overflowed``: the queue was full
    when a topic with the policy ``disconnect`` had an event.
    """

    __slots__ = ("_client_id", "_droppable", "_emptied", "_gaps", "_newest", "_options", "_queue", "_queued",
                 "_replayed", "_tails", "_trail", "dropped", "overflowed")  # fmt: skip

    def __init__(self, options: OutboxOptions, client_id: str, trail: Trail) -> None:
        self.dropped = 0
        self.overflowed = False
        self._options = options
        self._client_id = client_id
        self._trail = trail
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
    def entries(self) -> list[Entry]:
        """The queue, in its order."""
        return list(self._queue)

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
                    self._give_up(batch.topic, batch.events, Loss.SLOW_CONSUMER)
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
        self._trail.lose(gap.topic, gap.from_seq, gap.to_seq, gap.count, None)
        gap.explained = gap.count
        self._queue.append(gap)

    def take(self) -> bytes:
        """Take out the next bytes to write; empty if nothing waits any more."""
        while self._queue:
            if encoded := self._take(self._queue.popleft()):
                return encoded
        return b"".join([self._take_gap(topic) for topic in list(self._gaps)])

    def give_up(self, reason: Loss) -> None:
        """Lose all events that wait. The subscriber gets no gap for them, so they do not count as dropped."""
        for entry in (*self._gaps.values(), *self._queue):
            match entry:
                case QueuedBatch() if not is_empty(entry):
                    self._give_up(entry.batch.topic, entry.batch.events[entry.skipped :], reason)
                case Newest():
                    self._give_up(entry.topic, [entry.event], reason)
                    if entry.gap is not None:
                        self._remember(entry.gap)
                case Gap():
                    self._remember(entry)

    def _give_up(self, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        self._options.losses.lose(self._client_id, topic, events, reason)
        self._trail.lose(topic, events[0].seq, events[-1].seq, len(events), reason)

    def _remember(self, gap: Gap) -> None:
        """Remember the messages of a gap for which there was no room."""
        if gap.count > gap.explained:
            self._trail.lose(gap.topic, gap.from_seq, gap.to_seq, gap.count - gap.explained, Loss.OVERFLOW)

    def find(self, topic: Source, seq: int) -> StoredEvent | Gap | None:
        """The event if it waits, or the gap that has it and was not told yet."""
        for entry in (*self._gaps.values(), *self._queue):
            match entry:
                case QueuedBatch() if entry.batch.topic is topic:
                    waiting = [event for event in entry.batch.events[entry.skipped :] if event.seq == seq]
                    if waiting:
                        return waiting[0]
                case Newest() if entry.topic is topic and entry.event.seq == seq:
                    return entry.event
                case (Gap() as gap) | Newest(gap=Gap() as gap) if gap.topic is topic and gap.covers(seq):
                    return gap
        return None

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
            entry.batch, entry.skipped = nothing_of(topic), 0
            self._emptied += 1
        return count

    def _remove_empty(self) -> None:
        """Remove empty batches: at the front at once, elsewhere when more than half of the queue is empty."""
        while self._queue and is_empty(self._queue[0]):
            self._queue.popleft()
            self._emptied -= 1
        if 2 * self._emptied > len(self._queue):
            self._queue = deque(entry for entry in self._queue if not is_empty(entry))
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

    def _miss(self, topic: Source, from_seq: int, to_seq: int, count: int, explained: int = 0) -> None:
        """Widen the topic's gap, or begin one. All messages missed before its next event become one gap."""
        gap = self._gaps.get(topic)
        if gap is None:
            self._gaps[topic] = Gap(topic, from_seq, to_seq, count, explained)
        else:
            gap.from_seq, gap.to_seq = min(gap.from_seq, from_seq), max(gap.to_seq, to_seq)
            gap.count += count
            gap.explained += explained

    def _take_gap(self, topic: Source | None) -> bytes:
        gap = None if topic is None else self._gaps.pop(topic, None)
        if gap is None:
            return b""
        self._options.losses.gaps += 1
        self._remember(gap)
        return self._options.encoding.message(gap.text(self._options.clock))

    def _take(self, entry: Entry) -> bytes:
        """Encode an entry. A gap is empty here: it is sent before the next event of its topic."""
        match entry:
            case QueuedBatch():
                return self._take_batch(entry)
            case Notice():
                return self._take_gap(entry.topic) + self._options.encoding.message(entry.text)
            case Gap():
                self._tails.pop(entry.topic, None)
                self._miss(entry.topic, entry.from_seq, entry.to_seq, entry.count, entry.explained)
                return b""
            case Newest():
                del self._newest[entry.topic]
                if (gap := entry.gap) is not None:
                    self._miss(entry.topic, gap.from_seq, gap.to_seq, gap.count)
                return self._encode_unexpired(entry.topic, [entry.event])

    def _take_batch(self, entry: QueuedBatch) -> bytes:
        if is_empty(entry):
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
        return self._take_gap(topic) + self._encode(topic, events, encoded)

    def _encode(self, topic: Source, events: Sequence[StoredEvent], encoded: bytes = b"") -> bytes:
        encoded = encoded or self._options.encoding.events(topic, events)
        self._options.delivered.add(len(events), len(encoded))
        return encoded

    def _encode_unexpired(self, topic: Source, events: Sequence[StoredEvent]) -> bytes:
        """Encode the events that have not expired, each gap before the event that follows it."""
        now = self._options.clock.monotonic()
        parts: list[bytes] = []
        for expired, group in groupby(events, lambda event: event.expires <= now):
            run = list(group)
            if expired:
                self._miss(topic, run[0].seq, run[-1].seq, len(run), explained=len(run))
                self._lose(topic, run, Loss.EXPIRED)
                self._trail.lose(topic, run[0].seq, run[-1].seq, len(run), Loss.EXPIRED)
            else:
                parts += [self._take_gap(topic), self._encode(topic, run)]
        return b"".join(parts)

    def _lose(self, topic: Source, events: Sequence[StoredEvent], reason: Loss) -> None:
        self.dropped += len(events)
        self._options.losses.lose(self._client_id, topic, events, reason)
