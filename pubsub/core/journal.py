"""The contract between the Broker and its journals: in memory, on disk or in an engine. No I/O.

A journal assigns ``seq`` and ``epoch`` and keeps messages. It never delivers to subscribers by itself, and never
decides about rights. It adds and removes topics through its Host, also those that another server created.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol, TypeVar

from msgspec import UNSET, Struct, UnsetType

from pubsub.core.event import StoredEvent
from pubsub.core.histogram import Histogram
from pubsub.core.log import Done, TopicLog
from pubsub.core.topic import Topic
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish, TopicOptions

Found = TypeVar("Found")


class JournalError(Exception):
    """A journal cannot be used. The text is for the operator."""


class StoredTopic(Struct, frozen=True):
    """A topic as its journal has it, new or restored.

    ``seq``: the last one that was assigned. ``first``: the oldest in the journal; 0 if it has none itself, and the
    topic's ring is all that is kept. ``size``: bytes of its events. ``newest``: the newest events for the ring, without
    a missing ``seq``. ``expiring``: some events have a TTL of their own.
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
    """The Broker, as its journals see it. All calls come on the loop's thread."""

    def ring_size(self, options: TopicOptions) -> int:
        """The number of events of such a topic that the host keeps in memory."""
        ...

    def add_topic(self, stored: StoredTopic) -> Topic:
        """Add a topic that exists from now on."""
        ...

    def remove_topic(self, topic: Topic) -> None:
        """Remove a topic that is gone, and tell its subscribers after its last event."""
        ...

    def renew(self, topic: Topic, stored: StoredTopic) -> Topic:
        """Replace a topic by its next life, which begins with the last message that both have. Its members stay."""
        ...

    def skip(self, topic: Topic, until: int) -> None:
        """Tell that the next events, up to ``until``, are lost. The next one to deliver is behind it."""
        ...

    def call_when_told(self, topic: Topic, callback: Callable[[], None]) -> bool:
        """False if all members of a topic that was renewed, or has lost events, have been told.

        Otherwise deliver and skip nothing before ``callback`` is called. If it is renewed again, that is not.
        """
        ...

    def deliver(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        """Deliver the next events of a topic, one or more: the journal has them."""
        ...

    def deliver_all(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        """Deliver the next events of a topic, a list of any length, in pieces."""
        ...

    def forget(self, topic: Topic, done: Callable[[int], None]) -> None:
        """Forget the events of a topic in memory; ``done`` gets the number of those that had not expired."""
        ...

    def begin_to_expire(self, topic: Topic) -> None:
        """Called before the delivery of an event with a TTL."""
        ...

    def trim(self, topic: Topic, first: int, size: int) -> None:
        """The journal holds the events from ``first`` on, ``size`` bytes in all."""
        ...


class JournalMeasures(Struct, frozen=True):
    """The work of a journal since the start. ``commits``: their times. ``failures``: the commits that failed.

    ``waiting_bytes``: of publishes without an outcome. ``files``: the paths of all that it has on disk.
    """

    commits: Histogram
    failures: int
    waiting_bytes: int
    files: Sequence[str]


class Journal(Protocol):
    """See the module."""

    @property
    def failure(self) -> str:
        """The reason for which messages cannot be stored; empty if they can."""
        ...

    def attach(self, host: Host) -> None:
        """Set the host, before any other call."""
        ...

    def restore(self) -> None:
        """Add the topics of the last run. Raises JournalError."""
        ...

    def create(self, name: str, options: TopicOptions, done: Done) -> TopicLog:
        """Create a topic and add it, then call ``done``; or call ``done`` with the failure.

        Messages can be appended to the log at once. They are in the topic once it is created, and refused if it is not.
        """
        ...

    @property
    def measures(self) -> JournalMeasures: ...

    @property
    def full(self) -> bool:
        """True if the journal has too much to write: publish nothing until :meth:`call_when_writable` calls."""
        ...

    def call_when_writable(self, callback: Callable[[], None]) -> None: ...

    def call_after(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once all earlier operations have ended."""
        ...

    def close(self) -> None:
        """Release files and threads; may wait for the disk."""
        ...


class Sharing(Journal, Protocol):
    """A journal for all topics that other servers use too. This one may know less than they knew a moment ago.

    ``synced_once``: False before it has told of its topics.
    """

    synced_once: bool

    def sync(self, done: Done) -> None:
        """Call ``done`` once the host knows all that the journal had at this call; or with a failure.

        It is called in a later step, and after a bounded time.
        """
        ...

    def bound(self, done: Callable[[Found | Failure], None]) -> Callable[[Found | Failure], None]:
        """``done``, which gets a failure if it was not called in a bounded time. A second call does nothing."""
        ...


def random_epoch() -> str:
    """Make a new epoch: 40 random bits in hexadecimal."""
    return secrets.token_hex(5)


def lifetime(options: TopicOptions, request: Publish) -> float:
    """The TTL of a message in seconds: the topic's, or the message's own if that is shorter."""
    ttl = inf if options.ttl_sec is None else options.ttl_sec
    return ttl if request.ttl_sec is UNSET else min(ttl, request.ttl_sec)


def sender_of(options: TopicOptions, client_id: str) -> str | UnsetType:
    """The name of the publisher for a new event: none without the option ``sender``, or if it has no name."""
    return client_id if options.sender and client_id else UNSET
