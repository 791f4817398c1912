"""Where messages get their ``seq`` and are kept: the one way from a publish to its delivery.

``Broker.publish`` calls ``Journal.append``; the journal calls ``deliver`` once it has the message, in the order of
``seq``: at once, or after a commit. A journal never delivers by itself, and never decides who may publish.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import UNSET

if TYPE_CHECKING:
    from pubsub.core.event import StoredEvent
    from pubsub.core.topic import Topic
    from pubsub.protocol.errors import Failure
    from pubsub.protocol.requests import Publish, TopicOptions


DATABASE: Final = "journal.db"  # in the directory of durable topics


class JournalError(Exception):
    """A journal can't be used as it is; the text is for the operator."""


class Publisher(Protocol):
    """Who waits for the end of a publish: one call of the first three follows each."""

    def published(self, request: Publish, seq: int, ts: str) -> None:
        """The message is in its topic."""
        ...

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        """Its id was seen before, as that of ``seq``; nothing was published."""
        ...

    def refused(self, request: Publish, failure: Failure) -> None:
        """The message is not in its topic, and will not be."""
        ...

    def wait(self, request: Publish) -> None:
        """The end comes later."""
        ...

    def pause(self) -> None:
        """The journal has as much to do as it takes on: publish nothing more until :meth:`go_on`."""
        ...

    def go_on(self) -> None: ...


Deliver = Callable[["Topic", "Publish", "StoredEvent", str, Publisher], None]
Done = Callable[["Failure | None"], None]


class Journal(Protocol):
    """``deliver`` is set by the Broker. Each call's end comes in the same step, or later on the same thread.

    ``failure``: why messages can't be kept at present, in words for the operator; empty while all is well.
    """

    deliver: Deliver
    failure: str

    def open(self, restore: Callable[[str, str, TopicOptions], Topic]) -> None:
        """Have the topics restored that it kept: name, epoch and options of each. Raises JournalError."""
        ...

    def create(self, topic: Topic, done: Done) -> None:
        """Make room for a new topic."""
        ...

    def delete(self, topic: Topic, done: Done) -> None:
        """Forget the topic and its messages; what was appended before is delivered before."""
        ...

    def append(self, topic: Topic, request: Publish, publisher: Publisher) -> None:
        """Give the message of ``request`` its ``seq`` and keep it, then call ``deliver`` with all of it."""
        ...

    def read(
        self, topic: Topic, after: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        """The oldest ``limit`` events that follow ``after`` and have not expired; fewer where they fill a page.

        Nothing beyond the ``seq`` that the topic has at this moment: what was not delivered yet will be.
        """
        ...

    def find_missing(self, topic: Topic, after: int, done: Callable[[bool | Failure], None]) -> None:
        """Whether any of the events that follow ``after``, of which there are some, has expired or is gone.

        Of those up to the ``seq`` that the topic has at this moment.
        """
        ...

    def call_after(self, callback: Callable[[], None]) -> None:
        """Call it once everything that was begun up to here has ended."""
        ...

    def give_way(self) -> None:
        """Called before work that takes long: what is on its way to the disk goes on first."""
        ...

    def close(self) -> None:
        """Let go of files and threads; may wait for the disk."""
        ...


def lifetime(options: TopicOptions, request: Publish) -> float:
    """Seconds for which a message is kept and delivered: the topic's, or the message's own where that is shorter."""
    ttl = inf if options.ttl_sec is None else options.ttl_sec
    return ttl if request.ttl_sec is UNSET else min(ttl, request.ttl_sec)
