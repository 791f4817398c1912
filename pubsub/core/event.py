"""Events as they are kept and sent, and batches of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Final, Protocol

from msgspec import Struct

from pubsub.protocol.frames import text_frame, text_frames
from pubsub.protocol.replies import Event, encode
from pubsub.protocol.requests import Message, TopicOptions

# A batch is written as soon as it has so many bytes: it bounds what waits for the end of the tick, and is the grain in
# which a lagging subscriber's queue holds on to memory.
BATCH_BYTES: Final = 64 * 1024


class Source(Protocol):
    """The topic of some events: as much of it as a queue of events needs."""

    name: str
    options: TopicOptions
    expiring: bool


class StoredEvent(Struct, frozen=True, gc=False):
    """An event as it is kept: its place in the topic, and the text that all who get it share.

    ``expires``: the moment of the monotonic clock from which on it is not delivered any more.
    """

    seq: int
    text: bytes
    expires: float = inf


def make_event(topic: str, message: Message, seq: int, ts: str, expires: float = inf) -> StoredEvent:
    """The one maker of new events."""
    return StoredEvent(seq, encode(Event(topic, message, seq, ts)), expires)


class Encoding(Protocol):
    """The form in which subscribers get events and other messages. Members of a lane have the same."""

    def events(self, events: Sequence[StoredEvent]) -> bytes:
        """Encode events, joined."""
        ...

    def message(self, text: bytes) -> bytes:
        """Encode the JSON text of a reply or an info."""
        ...


class WebSocketText:
    """Each message is one text frame."""

    def events(self, events: Sequence[StoredEvent]) -> bytes:
        if len(events) == 1:
            return text_frame(events[0].text)
        return text_frames([event.text for event in events])

    def message(self, text: bytes) -> bytes:
        return text_frame(text)


WEBSOCKET_TEXT: Final = WebSocketText()


class Batch(Struct, frozen=True):
    """Events of one topic that are written together. ``encoded`` is all of them joined; empty until that is needed.

    It covers all from ``first`` to ``last``: a ``seq`` between them that no event has is no gap, but not for these
    subscribers.
    """

    topic: Source
    events: Sequence[StoredEvent]
    encoded: bytes
    first: int
    last: int


def make_batch(topic: Source, events: Sequence[StoredEvent], encoded: bytes = b"") -> Batch:
    """A batch of events that follow each other."""
    return Batch(topic, events, encoded, events[0].seq, events[-1].seq)


def make_batches(topic: Source, events: Iterable[StoredEvent]) -> Iterator[Batch]:
    """``events`` in batches of about BATCH_BYTES; a new one begins at each hole."""
    run: list[StoredEvent] = []
    size = 0
    for event in events:
        if run and (size >= BATCH_BYTES or event.seq != run[-1].seq + 1):
            yield make_batch(topic, run)
            run, size = [], 0
        run.append(event)
        size += len(event.text)
    if run:
        yield make_batch(topic, run)
