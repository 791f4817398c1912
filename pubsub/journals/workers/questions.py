"""The owner answers the questions of workers: pages of kept events, from a topic's ring or from its log. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.journals.shared.engine import Known
from pubsub.protocol.errors import Failure, TopicNotFound

if TYPE_CHECKING:
    from pubsub.core.broker import Broker
    from pubsub.core.topic import Topic

PAGE_BYTES: Final = 64 * 1024  # and one event more, as of a durable topic
LOOKED_AT: Final = 5000  # events of a ring that are looked at in one turn: 0.5 ms

Found = Callable[[Sequence[StoredEvent] | Failure], None]


class Questions:
    """See the module."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock

    def read(self, known: Known, after: int, until: int, limit: int, done: Found) -> None:
        """As Engine.read. Raises TopicNotFound."""
        topic = self._find(known)
        if self._is_in_memory(topic, after):
            self._read_ring(topic, after, until, limit, done)
        else:
            topic.log.read(max(after, topic.oldest - 1), until, limit, done)

    def find_missing(self, known: Known, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        """As Engine.find_missing. Raises TopicNotFound."""
        topic = self._find(known)
        if after + 1 < topic.oldest and after < until:
            done(True)
        elif self._is_in_memory(topic, after):
            self._look_for_expired(topic, after, until, done)
        else:
            topic.log.find_missing(after, until, done)

    def _find(self, known: Known) -> Topic:
        topic = self._broker.find_topic(known.name)
        if topic.epoch != known.epoch:
            raise TopicNotFound(known.name)
        return topic

    def _is_in_memory(self, topic: Topic, after: int) -> bool:
        return not topic.first or topic.in_ring(after)  # without a first event of its own, the log keeps nothing

    def _read_ring(self, topic: Topic, after: int, until: int, limit: int, done: Found) -> None:
        """Answer with the next unexpired events, in turns if many have expired."""
        page: list[StoredEvent] = []
        size = 0
        now = self._clock.monotonic()
        looked_at = topic.ring.after(after, LOOKED_AT)
        for event in looked_at:
            if event.seq > until or len(page) == limit or size >= PAGE_BYTES:
                break
            if event.expires > now:
                page.append(event)
                size += len(event.text)
        else:
            if looked_at and looked_at[-1].seq < until and not page:
                again = partial(self._read_ring, topic, looked_at[-1].seq, until, limit, done)
                self._broker.turns.take(again)
                return
        done(page)

    def _look_for_expired(self, topic: Topic, after: int, until: int, done: Callable[[bool | Failure], None]) -> None:
        now = self._clock.monotonic()
        looked_at = topic.ring.after(after, LOOKED_AT)
        end = looked_at[-1].seq if looked_at else until
        if looked_at and looked_at[0].seq > after + 1 and after < until:
            done(True)  # it has left the ring meanwhile
        elif any([event.expires <= now and event.seq <= until for event in looked_at]):
            done(True)
        elif end >= until:
            done(False)
        else:
            self._broker.turns.take(partial(self._look_for_expired, topic, end, until, done))
