"""The outbox of one subscriber: it writes directly while the socket takes data, and queues while it does not.

It does no I/O itself: it writes to the transport that it was given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from msgspec import Struct, field

from pubsub.core.backlog import Backlog, OutboxOptions
from pubsub.core.entries import Entry, Gap
from pubsub.core.event import Batch, Encoding, Source, StoredEvent, make_batches
from pubsub.core.losses import Loss
from pubsub.core.trail import Trail
from pubsub.filters.filters import Matcher, Subject


class Waiting(Struct):
    """Calls that wait until a subscriber has taken all: ``callbacks`` at once, then ``works``, one in a turn."""

    callbacks: list[Callable[[], None]] = []
    works: deque[Callable[[], None]] = field(default_factory=deque)
    has_turn: bool = False


class Transport(Protocol):
    """Takes bytes for one client. A function would do, but a bound method costs 64 bytes for each subscriber."""

    def write(self, data: bytes, /) -> None: ...


class Outbox:
    """See the module. A subscriber that keeps up has no backlog: its lanes write to its socket directly.

    ``client_id`` is the name of the client for those who ask about its losses.
    """

    __slots__ = ("_backlog", "_dropped", "_options", "_waiting", "blocked", "client_id", "trail", "transport")

    def __init__(self, transport: Transport, options: OutboxOptions) -> None:
        self.transport = transport
        self.blocked = False
        self.client_id = ""
        self._options = options
        self._backlog: Backlog | None = None
        self._dropped = 0  # events of earlier backlogs
        self._waiting: Waiting | None = None
        self.trail: Trail | None = None  # made when there is something to remember

    @property
    def awaited(self) -> bool:
        """True if something waits until the subscriber has taken all."""
        return self._waiting is not None and self.lagging

    @property
    def lagging(self) -> bool:
        """True if something waits, or would have to wait."""
        return self.blocked or self._backlog is not None

    @property
    def full(self) -> bool:
        return self._backlog is not None and self._backlog.full

    @property
    def overflowed(self) -> bool:
        """True if the subscriber must be disconnected for its full queue, even if it takes data again."""
        return self._backlog is not None and self._backlog.overflowed

    @property
    def queued(self) -> int:
        return 0 if self._backlog is None else self._backlog.queued

    @property
    def dropped(self) -> int:
        """The number of events dropped since the connection began."""
        return self._dropped + (0 if self._backlog is None else self._backlog.dropped)

    def write(self, encoded: bytes) -> None:
        self.transport.write(encoded)

    def ensure_trail(self) -> Trail:
        if self.trail is None:
            self.trail = Trail()
        return self.trail

    @property
    def entries(self) -> list[Entry]:
        """The queue."""
        return [] if self._backlog is None else self._backlog.entries

    def find(self, topic: Source, seq: int) -> StoredEvent | Gap | None:
        """The event if it waits, or the gap that has it and was not told yet."""
        return None if self._backlog is None else self._backlog.find(topic, seq)

    def block(self) -> None:
        """Queue everything from now on: the socket takes no more."""
        was_ready = not self.lagging
        self.blocked = True
        if was_ready:
            self._lagging_changed()

    def unblock(self) -> None:
        """Send the queue: the socket takes data again. Write directly once the queue is empty."""
        self.blocked = False
        while self._backlog is not None and not self.blocked and not self._backlog.overflowed:
            encoded = self._backlog.take()
            if not self._backlog:
                self._dropped, self._backlog = self.dropped, None
            if encoded:
                self.write(encoded)
        if not self.lagging:
            self._lagging_changed()
            self._call_waiting()

    def call_when_ready(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` as soon as nothing waits: at once, or later."""
        if not self.lagging:
            callback()
            return
        self._ensure_waiting().callbacks.append(callback)

    def take_turn_when_ready(self, work: Callable[[], None]) -> None:
        """Call ``work`` in a turn, as soon as nothing waits, and after other clients have been served.

        However many works wait, the subscriber has one turn at a time: others need not wait for all of them.
        """
        waiting = self._ensure_waiting()
        waiting.works.append(work)
        self._take_turn(waiting)

    @property
    def encoding(self) -> Encoding:
        return self._options.encoding

    def notify(self, topic: Source | None, text: bytes) -> None:
        """Send a message about ``topic``, after the topic's events that wait. It is never dropped."""
        if self.lagging:
            self._ensure_backlog().notify(topic, text)
        else:
            self.write(self.encoding.message(text))

    def replay(
        self,
        topic: Source,
        events: Iterable[StoredEvent],
        *,
        after: int | None,
        until: int,
        matcher: Matcher | None = None,
    ) -> None:
        """Send those of the kept ``events`` that match, and a gap for each missing one.

        The subscriber has all events up to ``after``; None: it starts with the first of ``events``. It will get the
        events after ``until``, so missing ones up to there are a gap too.
        """
        for batch in make_batches(topic, events):
            self._tell_missing(topic, after, batch.first - 1)
            after = batch.last
            self._replay_batch(batch if matcher is None else matching(batch, matcher))
        self._tell_missing(topic, after, until)

    def _replay_batch(self, batch: Batch) -> None:
        if not batch.events:
            return
        if self.lagging:
            self._ensure_backlog().replay(batch)
        else:
            encoded = self.encoding.events(batch.topic, batch.events)
            self._options.delivered.add(len(batch.events), len(encoded))
            self.write(encoded)

    def offer(self, batch: Batch) -> None:
        """Queue new events, by the overflow policy of their topic. Write them if nothing waits."""
        if self.lagging:
            self._ensure_backlog().offer(batch)
        else:
            self._options.delivered.add(len(batch.events), len(batch.encoded))
            self.write(batch.encoded)

    def clear(self, reason: Loss) -> None:
        """Lose all events that wait: the subscriber is gone, or about to be closed."""
        if self._backlog is not None:
            self._backlog.give_up(reason)
        self._dropped, self._backlog = self.dropped, None
        self._waiting = None

    def _tell_missing(self, topic: Source, after: int | None, until: int) -> None:
        if after is None or after >= until:
            return
        gap = Gap(topic, after + 1, until, until - after)
        if self.lagging:
            self._ensure_backlog().tell(gap)
        else:
            self._options.losses.gaps += 1
            self.ensure_trail().lose(topic, gap.from_seq, gap.to_seq, gap.count, None)
            self.write(self.encoding.message(gap.text(self._options.clock)))

    def _lagging_changed(self) -> None:
        """Called when the subscriber begins to lag, and when it no longer does."""

    def _call_waiting(self) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        callbacks, waiting.callbacks = waiting.callbacks, []
        for callback in callbacks:
            self.call_when_ready(callback)
        self._take_turn(waiting)

    def _take_turn(self, waiting: Waiting) -> None:
        if waiting.has_turn or self.lagging:
            return
        if waiting.works:
            waiting.has_turn = True
            self._options.take_turn(partial(self._work, waiting))
        elif self._waiting is waiting:
            self._waiting = None

    def _work(self, waiting: Waiting) -> None:
        waiting.has_turn = False
        if self._waiting is not waiting or self.lagging:  # cleared, or it has to wait for the socket first
            return
        try:
            waiting.works.popleft()()
        finally:
            self._take_turn(waiting)

    def _ensure_waiting(self) -> Waiting:
        if self._waiting is None:
            self._waiting = Waiting()
        return self._waiting

    def _ensure_backlog(self) -> Backlog:
        if self._backlog is None:
            self._backlog = Backlog(self._options, self.client_id, self.ensure_trail())
        return self._backlog


def matching(batch: Batch, matcher: Matcher) -> Batch:
    """The batch without the events that do not match. It covers the same span, so these are no gap."""
    events = [event for event in batch.events if matcher.matches(Subject(event.text))]
    return Batch(batch.topic, events, b"", batch.first, batch.last)
