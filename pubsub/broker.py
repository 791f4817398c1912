"""Topics and membership: who gets what. A plain class, without I/O, whose methods are complete in one step.

The clock, randomness and "at the end of the tick" come from outside, so that a test can drive it step by step.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pubsub.clock import Clock
from pubsub.errors import LimitExceeded, TopicExists, TopicNotFound
from pubsub.frames import text_frame
from pubsub.journal.memory import MemoryJournal
from pubsub.protocol import Event, Info, Publish, check_topic, encode
from pubsub.topic import Batch, StoredEvent, Topic, TopicOptions, make_batches

if TYPE_CHECKING:
    from pubsub.journal import Publisher
    from pubsub.outbox import Outbox

log = logging.getLogger(__name__)


def random_epoch() -> str:
    """A name for one life of a topic: 40 random bits."""
    return secrets.token_hex(5)


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept events of a topic. ``complete``: nothing that was asked for is gone."""

    epoch: str
    events: list[StoredEvent]
    complete: bool


class Broker:
    """See the module. ``defer(callback)`` must run ``callback`` once, at the end of the present tick."""

    def __init__(
        self,
        *,
        defer: Callable[[Callable[[], None]], object],
        clock: Clock,
        ring_size: int,
        max_topics: int = 0,
        new_epoch: Callable[[], str] = random_epoch,
    ) -> None:
        self._topics: dict[str, Topic] = {}
        self._defer = defer
        self._clock = clock
        self._ring_size = ring_size
        self._max_topics = max_topics
        self._new_epoch = new_epoch
        self._journal = MemoryJournal(self._deliver)
        self._unflushed: list[Topic] = []
        self._subscribers = 0
        self._logs_publishes = log.isEnabledFor(logging.DEBUG)

    @property
    def topics(self) -> list[Topic]:
        """All topics, in the order in which they were made."""
        return list(self._topics.values())

    @property
    def topic_count(self) -> int:
        return len(self._topics)

    @property
    def subscriber_count(self) -> int:
        """Connections that are subscribed to anything."""
        return self._subscribers

    def create_topic(self, name: str) -> Topic:
        """Raises BadRequest for an impossible name, TopicExists, LimitExceeded."""
        check_topic(name)
        if name in self._topics:
            raise TopicExists(name)
        if self._max_topics and len(self._topics) >= self._max_topics:
            raise LimitExceeded(f"the server has its {self._max_topics} topics (MAX_TOPICS)")
        topic = self._topics[name] = Topic(name, self._new_epoch(), TopicOptions(self._ring_size), self._journal)
        log.info(
            "Topic created: %(topic)s (buffer size: %(buffer_size)d)", {"topic": name, "buffer_size": self._ring_size}
        )
        return topic

    def delete_topic(self, name: str) -> None:
        """End the topic; its subscribers are told behind its last event. Raises TopicNotFound."""
        topic = self._topics.get(name)
        if topic is None:
            raise TopicNotFound(name)
        topic.flush()
        del self._topics[name]
        notice = text_frame(encode(Info(topic=name, msg="topic_deleted", ts=self._clock.timestamp())))
        for outbox in topic.lane.outboxes:
            self._part(topic, outbox)
            outbox.notify(name, notice)
        log.info("Topic deleted: %(topic)s", {"topic": name})

    def publish(self, request: Publish, publisher: Publisher) -> None:
        """Put a message into its topic; ``publisher.published`` follows. Raises TopicNotFound, BadRequest."""
        topic = self._topics.get(request.topic)
        if topic is None:
            topic = self._topic(request.topic)
        topic.journal.append(topic, request, publisher)

    def subscribe(self, name: str, outbox: Outbox) -> Topic:
        """Make ``outbox`` a subscriber of the topic, once: what is published from here on reaches it.

        Nothing can come between this and what the caller does in the same step, so an ack and a replay sent now
        stand before all that is live. Raises TopicNotFound, BadRequest.
        """
        topic = self._topic(name)
        topic.flush()
        self._subscribers += not outbox.lanes
        outbox.lanes[name] = topic.lane
        topic.lane.join(outbox)
        return topic

    def unsubscribe(self, name: str, outbox: Outbox) -> Topic:
        """The opposite; without a subscription nothing happens. Raises TopicNotFound, BadRequest."""
        topic = self._topic(name)
        if name in outbox.lanes:
            topic.flush()
            self._part(topic, outbox)
        return topic

    def leave(self, outbox: Outbox) -> None:
        """End all subscriptions of a subscriber; what waits for it still waits."""
        for name in list(outbox.lanes):
            self._part(self._topics[name], outbox)

    def replay(self, topic: Topic, last_n: int) -> Iterable[Batch]:
        """The newest ``last_n`` kept events."""
        return make_batches(topic.name, topic.last(last_n))

    def history_after(self, name: str, seq: int, limit: int) -> Kept:
        """Up to ``limit`` kept events that follow ``seq``. Raises TopicNotFound, BadRequest."""
        topic = self._topic(name)
        events = topic.after(seq, limit)
        oldest = topic.seq - len(topic.ring) + 1
        return Kept(topic.epoch, events, seq + 1 >= oldest)

    def history_last(self, name: str, count: int) -> Kept:
        """The newest ``count`` kept events. Raises TopicNotFound, BadRequest."""
        topic = self._topic(name)
        events = topic.last(count)
        return Kept(topic.epoch, events, len(events) == min(count, topic.seq))

    def flush(self) -> None:
        """Deliver what was published in this tick."""
        topics, self._unflushed = self._unflushed, []
        for topic in topics:
            topic.flush()

    def _topic(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            check_topic(name)
            raise TopicNotFound(name)
        return topic

    def _part(self, topic: Topic, outbox: Outbox) -> None:
        topic.lane.leave(outbox)
        del outbox.lanes[topic.name]
        self._subscribers -= not outbox.lanes

    def _deliver(self, topic: Topic, request: Publish, seq: int, publisher: Publisher) -> None:
        """The journal has the message: send it on its way, and tell its publisher."""
        event = Event(topic.name, request.message, seq, self._clock.timestamp())
        if topic.add(StoredEvent(seq, text_frame(encode(event)))):
            if not self._unflushed:
                self._defer(self.flush)
            self._unflushed.append(topic)
        if self._logs_publishes:
            log.debug(
                "Message published to topic %(topic)s: id=%(id)s",
                {"topic": topic.name, "id": request.message.id, "seq": seq},
            )
        publisher.published(request, event)
