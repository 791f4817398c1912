"""Events as they are kept and sent, and batches of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Final, Protocol

from msgspec import Struct

from pubsub.protocol.requests import TopicOptions

# A batch is written as soon as it has so many bytes: it bounds what waits for the end of the tick, and is the grain in
# which a lagging subscriber's queue holds on to memory.
BATCH_BYTES: Final = 64 * 1024


class Source(Protocol):
    """The topic of some events: as much of it as a queue of events needs."""

    name: str
    options: TopicOptions
    expiring: bool


class StoredEvent(Struct, frozen=True, gc=False):
    """An event as it is kept and sent: its place in the topic and the finished frame, shared by all who get it.

    ``expires``: when it is not to be delivered any more, by the monotonic clock.
    """

    seq: int
    frame: bytes
    expires: float = inf


class Batch(Struct, frozen=True):
    """Events of one topic that are written together, without a hole in ``seq``; ``frames`` is all of them joined."""

    topic: Source
    events: list[StoredEvent]
    frames: bytes


def make_batches(topic: Source, events: Iterable[StoredEvent]) -> Iterator[Batch]:
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


def make_batch(topic: Source, events: list[StoredEvent]) -> Batch:
    """One batch; a lone event's frame is not copied."""
    frames = events[0].frame if len(events) == 1 else b"".join([event.frame for event in events])
    return Batch(topic, events, frames)
