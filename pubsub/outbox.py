"""One subscriber's bounded queue: what waits while its socket takes nothing, what is dropped, what it is told of that.

A subscriber that keeps up never has anything here: its lanes write to its socket directly. No I/O of its own: it
writes through the function that it was given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from pubsub.clock import Clock
from pubsub.frames import text_frame
from pubsub.protocol import Info, encode
from pubsub.topic import Batch, make_batch

if TYPE_CHECKING:
    from pubsub.topic import Lane


class Notice(Struct, frozen=True):
    """A frame about a topic, behind the events of it that wait; never dropped."""

    topic: str
    frame: bytes


class Gap:
    """Messages of one topic that a subscriber won't get, from the first to the last of them."""

    __slots__ = ("count", "from_seq", "to_seq")

    def __init__(self, from_seq: int) -> None:
        self.from_seq = from_seq
        self.to_seq = from_seq
        self.count = 0


class Outbox:
    """See the module. ``limit`` is the most events that wait; ``lanes`` (the Broker's) are its subscriptions by name.

    Events are queued by the batch: for a subscriber that lags, a batch costs one step however many events it has.
    """

    __slots__ = ("_clock", "_dropped", "_gaps", "_limit", "_queue", "_queued", "_replayed", "_skipped", "blocked",
                 "lanes", "write")  # fmt: skip

    def __init__(self, write: Callable[[bytes], None], limit: int, clock: Clock) -> None:
        self.write = write
        self.blocked = False
        self.lanes: dict[str, Lane] = {}
        self._limit = limit
        self._clock = clock
        self._queue: deque[Batch | Notice] | None = None  # made when first needed
        self._queued = 0  # events in the queue
        self._skipped = 0  # of the first batch's events, those dropped already
        self._replayed = 0  # room beyond the limit for a replay, as long as it waits
        self._gaps: dict[str, Gap] = {}
        self._dropped = 0

    @property
    def lagging(self) -> bool:
        """Whether something waits, or would have to."""
        return self.blocked or bool(self._queue)

    @property
    def full(self) -> bool:
        return self._queued >= self._limit + self._replayed

    @property
    def queued(self) -> int:
        return self._queued

    @property
    def dropped(self) -> int:
        """Events dropped since the beginning."""
        return self._dropped

    def block(self) -> None:
        """The socket takes no more: from now on everything waits here."""
        was_ready = not self.lagging
        self.blocked = True
        if was_ready:
            self._rejoin()

    def unblock(self) -> None:
        """The socket takes data again: send what waits, and go back to direct writes when nothing does."""
        self.blocked = False
        self._drain()
        if not self.lagging:
            self._rejoin()

    def notify(self, topic: str, frame: bytes) -> None:
        """Send a frame about ``topic`` behind the events of it that wait; it is never dropped."""
        if self.lagging:
            self._waiting().append(Notice(topic, frame))
        else:
            self.write(frame)

    def replay(self, batches: Iterable[Batch]) -> None:
        """Send kept events. However many they are, none is dropped to make room for another of them."""
        for batch in batches:
            if self.lagging:
                self._replayed += len(batch.events)
                self.offer(batch)
            else:
                self.write(batch.frames)

    def offer(self, batch: Batch) -> None:
        """Queue new events; the oldest make room for them."""
        self._waiting().append(batch)
        self._queued += len(batch.events)
        while (excess := self._queued - self._limit - self._replayed) > 0:
            self._drop(excess)

    def clear(self) -> None:
        """Forget all: the subscriber is gone."""
        self._queue = None
        self._queued = self._skipped = self._replayed = 0
        self._gaps = {}

    def _rejoin(self) -> None:
        for lane in self.lanes.values():
            lane.join(self)

    def _waiting(self) -> deque[Batch | Notice]:
        if self._queue is None:
            self._queue = deque()
        return self._queue

    def _drop(self, excess: int) -> None:
        """Drop up to ``excess`` events of the oldest batch; notices before it keep their places."""
        queue = self._waiting()
        notices = []
        while isinstance(batch := queue.popleft(), Notice):
            notices.append(batch)
        count = min(excess, len(batch.events) - self._skipped)
        self._widen_gap(
            batch.topic, batch.events[self._skipped].seq, batch.events[self._skipped + count - 1].seq, count
        )
        self._skipped += count
        self._queued -= count
        if self._skipped == len(batch.events):
            self._skipped = 0
        else:
            queue.appendleft(batch)
        queue.extendleft(reversed(notices))

    def _widen_gap(self, topic: str, from_seq: int, to_seq: int, count: int) -> None:
        gap = self._gaps.get(topic)
        if gap is None:
            gap = self._gaps[topic] = Gap(from_seq)
        gap.to_seq = to_seq
        gap.count += count
        self._dropped += count

    def _drain(self) -> None:
        while self._queue and not self.blocked:
            entry = self._queue.popleft()
            self._tell_gap(entry.topic)
            if isinstance(entry, Notice):
                self.write(entry.frame)
            else:
                self._send(entry)
        if not self._queue:
            self._queue = None
            for topic in list(self._gaps):
                self._tell_gap(topic)

    def _send(self, batch: Batch) -> None:
        if self._skipped:
            batch = make_batch(batch.topic, batch.events[self._skipped :])
            self._skipped = 0
        self._queued -= len(batch.events)
        self._replayed = max(0, self._replayed - len(batch.events))
        self.write(batch.frames)

    def _tell_gap(self, topic: str) -> None:
        gap = self._gaps.pop(topic, None)
        if gap is not None:
            info = Info(
                topic=topic,
                msg="dropped",
                count=gap.count,
                from_seq=gap.from_seq,
                to_seq=gap.to_seq,
                ts=self._clock.timestamp(),
            )
            self.write(text_frame(encode(info)))
