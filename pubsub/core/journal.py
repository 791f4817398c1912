"""The contract between the Broker and what keeps its topics: journals in memory, on disk or in an engine. No I/O.

A journal gives out ``seq`` and ``epoch`` and keeps messages. It never delivers to subscribers by itself, and never
decides who may publish. Topics appear and go through its Host, also those that another server made.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from msgspec import UNSET, Struct

from pubsub.core.event import StoredEvent
from pubsub.core.log import Done, TopicLog
from pubsub.core.topic import Topic
from pubsub.protocol.requests import Publish, TopicOptions


class JournalError(Exception):
    """A journal can't be used as it is; the text is for the operator."""


class StoredTopic(Struct, frozen=True):
    """A topic as its journal has it, new or from before.

    ``seq``: the last one given out. ``first``: the oldest that the journal holds; 0 if it holds none itself, and the
    topic's ring is all that is kept. ``size``: bytes of its events. ``newest``: the newest of them, without a hole, for
    the ring. ``expiring``: some events have a time to live of their own.
    """

    name: str
    epoch: str
    options: TopicOptions
    log: TopicLog
    seq: int = 0
    first: int = 0
    size: int = 0
    newest: Sequence[StoredEvent] = ()
    expiring: bool = False


class Host(Protocol):
    """The Broker, as its journals see it. Everything is called on the loop's thread."""

    def ring_size(self, options: TopicOptions) -> int:
        """The number of events of such a topic that the host keeps in memory."""
        ...

    def add_topic(self, stored: StoredTopic) -> Topic:
        """A topic is there from now on."""
        ...

    def remove_topic(self, topic: Topic) -> None:
        """A topic is gone: its subscribers are told behind its last event."""
        ...

    def deliver(self, topic: Topic, event: StoredEvent) -> None:
        """The journal has the event, the next one of its topic."""
        ...

    def trim(self, topic: Topic, first: int, size: int) -> None:
        """The journal holds the events from ``first`` on, ``size`` bytes in all."""
        ...


class Journal(Protocol):
    """See the module. ``failure``: why messages can't be kept at present, for the operator; empty if all is well."""

    failure: str

    def attach(self, host: Host) -> None:
        """Learn the host, before any other call."""
        ...

    def restore(self) -> None:
        """Add the topics that it kept. Raises JournalError."""
        ...

    def create(self, name: str, options: TopicOptions, done: Done) -> None:
        """Make a topic and add it, then call ``done``; or call it with the failure."""
        ...

    @property
    def full(self) -> bool:
        """The journal has as much to write as it takes: publish no more until :meth:`call_when_writable` calls."""
        ...

    def call_when_writable(self, callback: Callable[[], None]) -> None: ...

    def call_after(self, callback: Callable[[], None]) -> None:
        """Call it once everything that was begun before has ended."""
        ...

    def close(self) -> None:
        """Release files and threads; may wait for the disk."""
        ...


def random_epoch() -> str:
    """A name for one life of a topic: 40 random bits."""
    return secrets.token_hex(5)


def lifetime(options: TopicOptions, request: Publish) -> float:
    """Seconds for which a message is kept and delivered: the topic's, or the message's own if that is shorter."""
    ttl = inf if options.ttl_sec is None else options.ttl_sec
    return ttl if request.ttl_sec is UNSET else min(ttl, request.ttl_sec)
