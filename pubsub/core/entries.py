"""The entries of a subscriber's queue: batches, notices, gaps, and the newest events of some topics. No I/O."""

from __future__ import annotations

from msgspec import Struct

from pubsub.core.clock import Clock
from pubsub.core.event import Batch, Source, StoredEvent
from pubsub.protocol.replies import Info, encode


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
    """Messages of one topic that a subscriber does not get: ``count`` of those from the first ``seq`` to the last.

    ``explained`` of them are in the trail already, with the reason.
    """

    topic: Source
    from_seq: int
    to_seq: int
    count: int
    explained: int = 0

    def covers(self, seq: int) -> bool:
        return self.from_seq <= seq <= self.to_seq

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


def nothing_of(topic: Source) -> Batch:
    """The batch of a topic that has no events."""
    return Batch(topic, (), b"", 0, 0)


def is_empty(entry: Entry) -> bool:
    """True for a batch whose events were all dropped."""
    return isinstance(entry, QueuedBatch) and not entry.batch.events
