"""The journal of topics that live as long as the process: the topic's ring is all that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pubsub.journal import Publisher, Stored
    from pubsub.protocol import Publish
    from pubsub.topic import Topic


class MemoryJournal:
    __slots__ = ("_stored",)

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def append(self, topic: Topic, request: Publish, publisher: Publisher) -> None:
        self._stored(topic, request, topic.seq + 1, publisher)
