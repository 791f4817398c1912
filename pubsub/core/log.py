"""The contract of a topic's log, which assigns ``seq`` to messages and keeps them. No I/O.

``Broker.publish`` calls ``TopicLog.append``; the journal behind it calls ``Host.deliver`` (see ``journal``) once it has
the message, in the order of ``seq``: at once, or after a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType

from pubsub.core.event import StoredEvent
from pubsub.protocol.errors import Failure
from pubsub.protocol.requests import Publish

Done = Callable[["Failure | None"], None]
Found = Callable[["Sequence[StoredEvent] | Failure"], None]
Purged = Callable[["int | Failure"], None]


class Assignment(Struct, frozen=True, gc=False):
    """The outcome of one publish of a list. ``duplicate``: its id was seen before, as that of ``seq``."""

    seq: int
    duplicate: bool


Assigned = Callable[["Sequence[Assignment] | Failure"], None]


def ignore(_: Failure | None) -> None:
    """Ignore the outcome."""


class Publisher(Protocol):
    """A publisher learns the outcome of each publish by one call of the first three methods.

    Publishes that were appended together to a topic, and follow each other there, have their outcome together.

    ``client_id``: its name in events of topics with the option ``sender``; empty if it has none.
    """

    @property
    def client_id(self) -> str: ...

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        """The messages are in their topic, from the ``seq`` ``first`` on, and on their way to the subscribers."""
        ...

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        """Its id was seen before, as that of ``seq``; nothing was published."""
        ...

    def refused(self, request: Publish, failure: Failure) -> None:
        """The message is not in its topic, and never will be."""
        ...

    def wait(self, requests: Sequence[Publish]) -> None:
        """The outcomes come later, in the order of the publishes."""
        ...


class TopicLog(Protocol):
    """One topic in its journal. Results come in the same step, or later on the same thread."""

    @property
    def appending(self) -> bool:
        """True if the outcome of a publish is not known yet: it may add an event."""
        ...

    def append(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        """Assign a ``seq`` to each message, keep it, have it delivered, then tell the publisher.

        Each message has an outcome of its own. One whose id was seen within ``dedup_sec`` is a duplicate, whatever its
        ``expect_seq`` is. Otherwise ``expect_seq`` must be the ``seq`` that the publish before it got: the outcome is a
        Conflict if it is not.
        """
        ...

    def append_all(self, requests: Sequence[Publish], client_id: str, done: Assigned) -> None:
        """Append messages as :meth:`append` would, one after the other, but all of them or none.

        ``done`` gets the outcome of each, or the one failure for which none was appended.
        """
        ...

    def read(self, after: int, until: int, limit: int, done: Found) -> None:
        """Read the oldest ``limit`` unexpired events after ``after``, up to ``until``; fewer if a page is full."""
        ...

    def find_missing(self, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        """Find out if any event after ``after`` and up to ``until`` has expired or is gone."""
        ...

    def purge(self, done: Purged) -> None:
        """Forget all earlier messages; ``done`` gets their number. ``seq``, ``epoch`` and known ids stay."""
        ...

    def delete(self, done: Done, expect_seq: int | UnsetType = UNSET) -> None:
        """Delete the topic and its messages, after all earlier messages are delivered.

        ``expect_seq`` must be the ``seq`` of the topic then, as with a publish: the outcome is a Conflict if it is not.
        """
        ...
