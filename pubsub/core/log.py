"""The contract of a topic's log, which assigns ``seq`` to messages and keeps them. No I/O.

``Broker.publish`` calls ``TopicLog.append``; the journal behind it calls ``Host.deliver`` (see ``journal``) once it has
the message, in the order of ``seq``: at once, or after a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pubsub.core.event import StoredEvent
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish

Done = Callable[["Failure | None"], None]
Found = Callable[["Sequence[StoredEvent] | Failure"], None]


def ignore(_: Failure | None) -> None:
    """Ignore the outcome."""


class Publisher(Protocol):
    """A publisher learns the outcome of each publish by one call of the first three methods."""

    def published(self, request: Publish, seq: int, ts: str) -> None:
        """The message is in its topic, and on its way to the subscribers."""
        ...

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        """Its id was seen before, as that of ``seq``; nothing was published."""
        ...

    def refused(self, request: Publish, failure: Failure) -> None:
        """The message is not in its topic, and never will be."""
        ...

    def wait(self, request: Publish) -> None:
        """The outcome comes later. Outcomes come in the order of their publishes."""
        ...


class TopicLog(Protocol):
    """One topic in its journal. Results come in the same step, or later on the same thread."""

    @property
    def appending(self) -> bool:
        """True if the outcome of a publish is not known yet: it may add an event."""
        ...

    def append(self, request: Publish, publisher: Publisher) -> None:
        """Assign a ``seq``, keep the message, have it delivered, then tell the publisher."""
        ...

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        """Read the oldest ``limit`` unexpired events after ``after``, up to ``until``; fewer if a page is full."""
        ...

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        """Find out if any event after ``after`` and up to ``until`` has expired or is gone."""
        ...

    def delete(self, done: Done) -> None:
        """Delete the topic and its messages, after all earlier messages are delivered."""
        ...
