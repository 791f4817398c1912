"""The form of events and messages in a stream of Server-Sent Events (WHATWG HTML, 9.2). No I/O.

An event has no ``event:`` field, so that ``onmessage`` gets it. Every other message, also an error, is ``event: info``:
an EventSource has an event named ``error`` of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from pubsub.core.event import Source, StoredEvent

HEARTBEAT: Final = b": ping\n\n"  # a comment

_EPOCH_BITS: Final = 32

# Raw ends of lines stand between the tokens of a payload only: in a string JSON has them escaped.
_AS_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")


class StreamEncoding(ABC):
    """Messages, whatever the ids of events are."""

    @abstractmethod
    def events(self, topic: Source, events: Sequence[StoredEvent]) -> bytes: ...

    def shared_events(self, topic: Source, events: Sequence[StoredEvent]) -> bytes:
        return self.events(topic, events)

    def message(self, text: bytes) -> bytes:
        return b"event: info\ndata: %b\n\n" % text


class TopicEvents(StreamEncoding):
    """Events of a stream of one topic: the id is ``epoch:seq``."""

    def events(self, topic: Source, events: Sequence[StoredEvent]) -> bytes:
        epoch = topic.epoch.encode()
        blocks = [b"id: %b:%d\ndata: %b\n\n" % (epoch, event.seq, event.text) for event in events]
        return _on_one_line_each(blocks, events) or self.events(topic, _on_one_line(events))


class MarkedEvents(StreamEncoding):
    """Events of streams of several topics, shared by them all. Each stream puts its own token before the ids.

    The id is ``key.seq``. It is the last field, so that an end of line stands before each.
    """

    def events(self, topic: Source, events: Sequence[StoredEvent]) -> bytes:
        key = topic_key(topic)
        blocks = [b"data: %b\nid: %x.%d\n\n" % (event.text, key, event.seq) for event in events]
        return _on_one_line_each(blocks, events) or self.events(topic, _on_one_line(events))


TOPIC_EVENTS: Final = TopicEvents()
MARKED_EVENTS: Final = MarkedEvents()


def topic_key(topic: Source) -> int:
    """A number of 63 bits for this life of the topic, the same at all servers that share it.

    The upper half stands for the name alone.
    """
    return _key_of(topic.name, topic.epoch)


def name_part(key: int) -> int:
    """The part of a key that is the same in all lives of a topic."""
    return key >> _EPOCH_BITS


@lru_cache(maxsize=4096)  # 2 µs without
def _key_of(name: str, epoch: str) -> int:
    of_name, of_both = (blake2b(text.encode(), digest_size=4).digest() for text in (name, f"{name} {epoch}"))
    return int.from_bytes(of_name) >> 1 << _EPOCH_BITS | int.from_bytes(of_both)


def info_block(identifier: bytes, text: bytes) -> bytes:
    """An info that also sets the id from which the client resumes."""
    return b"id: %b\nevent: info\ndata: %b\n\n" % (identifier, text)


def heartbeat(identifier: bytes = b"") -> bytes:
    """A comment, and a new id if there is one."""
    return HEARTBEAT if not identifier else b": ping\nid: %b\n\n" % identifier


def retry_line(milliseconds: int) -> bytes:
    """The time after which the client must connect again."""
    return b"retry: %d\n" % milliseconds


def _on_one_line_each(blocks: Sequence[bytes], events: Sequence[StoredEvent]) -> bytes:
    """The blocks, joined; empty if there are ends of lines in the events."""
    encoded = b"".join(blocks)
    return b"" if b"\r" in encoded or encoded.count(b"\n") != 3 * len(events) else encoded


def _on_one_line(events: Sequence[StoredEvent]) -> list[StoredEvent]:
    return [StoredEvent(event.seq, event.text.translate(_AS_BLANKS), event.expires) for event in events]
