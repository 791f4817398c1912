"""Where messages get their ``seq`` and are kept: the one way from a publish to its delivery.

``Broker.publish`` calls ``Journal.append``; the journal calls :data:`Stored` once it has the message, in the order of
``seq``: at once, or after a commit. A journal never delivers, and never decides who may publish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pubsub.protocol import Event, Publish
    from pubsub.topic import Topic


class Publisher(Protocol):
    """Who waits for the end of a publish."""

    def published(self, request: Publish, event: Event) -> None:
        """The message is in its topic, as ``event``."""
        ...


Stored = Callable[["Topic", "Publish", int, Publisher], None]


class Journal(Protocol):
    def append(self, topic: Topic, request: Publish, publisher: Publisher) -> None:
        """Give the message of ``request`` its ``seq`` and keep it, then call Stored with all of it."""
        ...
