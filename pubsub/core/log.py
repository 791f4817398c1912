"""The log of one topic, as the rules see it: a message gets its ``seq`` there, and is kept. No I/O.

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
    """For a caller that need not know the outcome."""


class Publisher(Protocol):
    """Learns the outcome of its publishes: one call of the first three follows each."""

    def published(self, request: Publish, seq: int, ts: str) -> None:
        """The message is in its topic, and on its way to the subscribers."""
        ...

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        """Its id was seen before, as that of ``seq``; nothing was published."""
        ...

    def refused(self, request: Publish, failure: Failure) -> None:
        """The message is not in its topic, and will not be."""
        ...

    def wait(self, request: Publish) -> None:
        """The outcome comes later. Outcomes come in the order of their publishes."""
        ...


class TopicLog(Protocol):
    """One topic in its journal. What a call promises comes in the same step, or later on the same thread."""

    def append(self, request: Publish, publisher: Publisher) -> None:
        """Give the message its ``seq``, keep it, have it delivered, then tell the publisher."""
        ...

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        """The oldest ``limit`` events from ``after`` (excluded) to ``until`` that have not expired; fewer if a page
        is full of bytes before."""
        ...

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        """Find out if any event from ``after`` (excluded) to ``until`` has expired or is gone."""
        ...

    def delete(self, done: Done) -> None:
        """Forget the topic and its messages, after all that was appended before is delivered."""
        ...
