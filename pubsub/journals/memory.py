"""The journal of topics that live as long as the process: the topic's ring is all that is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, structs

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent, make_event
from pubsub.core.journal import lifetime
from pubsub.journals.dedup import Seen, id_key

if TYPE_CHECKING:
    from pubsub.core.journal import Deliver, Done, Publisher
    from pubsub.core.topic import Topic
    from pubsub.protocol.errors import Failure
    from pubsub.protocol.requests import Publish, TopicOptions


class MemoryJournal:
    """Every call ends in the same step."""

    deliver: Deliver

    def __init__(self, clock: Clock) -> None:
        self.failure = ""
        self._clock = clock
        self._seen: dict[Topic, Seen] = {}  # of the topics with dedup_sec

    def open(self, restore: Callable[[str, str, TopicOptions], Topic]) -> None:
        pass

    def create(self, topic: Topic, done: Done) -> None:
        if topic.options.dedup_sec is not None:
            self._seen[topic] = Seen(topic.name, topic.options.dedup_sec)
        done(None)

    def delete(self, topic: Topic, done: Done) -> None:
        self._seen.pop(topic, None)
        done(None)

    def append(self, topic: Topic, request: Publish, publisher: Publisher) -> None:
        seq = topic.seq + 1
        ts = self._clock.timestamp()
        if self._seen and (seen := self._seen.get(topic)) is not None:
            key, now = id_key(request.message.id), self._clock.monotonic()
            if (first := seen.find(key, now)) is not None:
                publisher.repeated(request, first, ts)
                return
            seen.add(key, seq, now)
        event = make_event(topic.name, request.message, seq, ts)
        if topic.expiring or request.ttl_sec is not UNSET:
            now = self._clock.monotonic()
            topic.purge(now)
            event = structs.replace(event, expires=now + lifetime(topic.options, request))
        self.deliver(topic, request, event, ts, publisher)

    def read(
        self, topic: Topic, after: int, limit: int, done: Callable[[Sequence[StoredEvent] | Failure], None]
    ) -> None:
        raise AssertionError("all that is kept is in the ring")

    def find_missing(self, topic: Topic, after: int, done: Callable[[bool | Failure], None]) -> None:
        raise AssertionError("all that is kept is in the ring")

    def call_after(self, callback: Callable[[], None]) -> None:
        callback()

    def give_way(self) -> None:
        pass

    def close(self) -> None:
        pass
