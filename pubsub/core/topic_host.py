"""The half of the Broker that its journals call: topics begin and end here, and their events arrive. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pubsub.core.event import StoredEvent
from pubsub.core.ring import release
from pubsub.core.topic import Topic

if TYPE_CHECKING:
    from pubsub.core.clock import Clock
    from pubsub.core.counts import MessageCount
    from pubsub.core.creation import Creations
    from pubsub.core.idle import IdleTopics
    from pubsub.core.journal import StoredTopic
    from pubsub.core.journals import Journals
    from pubsub.core.memberships import Memberships
    from pubsub.core.names import SortedNames
    from pubsub.core.presence import Presence
    from pubsub.core.renewal import Renewal
    from pubsub.core.turns import Turns
    from pubsub.protocol.requests import TopicOptions

log = logging.getLogger(__name__)


class TopicHost:
    """See the module (Host). ``ended_topics``: see the Broker."""

    _topics: dict[str, Topic]
    _names: SortedNames
    _clock: Clock
    _ring_size: int
    _journals: Journals
    _creations: Creations
    _memberships: Memberships
    _renewal: Renewal
    _flush_later: Callable[[Topic], None]
    ended_topics: MessageCount
    turns: Turns
    clients: Presence
    idle: IdleTopics

    @property
    def shares_topics(self) -> bool:
        """True if other servers have the same topics: they may know of one that is not known here yet."""
        return self._journals.shared is not None

    def ring_size(self, options: TopicOptions) -> int:
        assert options.history is not None, "filled in when the topic was made"
        elsewhere = options.durable or self.shares_topics
        return min(options.history, self._ring_size) if elsewhere else options.history

    def add_topic(self, stored: StoredTopic) -> Topic:
        topic = self._make_topic(stored)
        self._add(topic)
        return topic

    def _make_topic(self, stored: StoredTopic) -> Topic:
        topic = Topic(stored.name, stored.epoch, stored.options, stored.log, ring_size=self.ring_size(stored.options))
        topic.restore(seq=stored.seq, newest=stored.newest, expiring=stored.expiring)
        topic.trim(stored.first, stored.size)
        return topic

    def renew(self, topic: Topic, stored: StoredTopic) -> Topic:
        renewed = self._make_topic(stored)
        if not self._is_current(topic):  # it was idle, and is deleted
            topic.successor = renewed
            if not self.idle.is_leaving(topic):  # the outcome came before this
                self._put_back(renewed)
            return renewed
        self._topics[topic.name] = renewed
        self.ended_topics.add(topic.seq - renewed.seq, topic.bytes)
        self._creations.ended(topic)
        self._creations.began(renewed)
        self.idle.forget(topic)
        self.idle.watch(renewed)
        self._memberships.renew(topic, renewed)
        self._renewal.move(topic, renewed)
        self.forget(topic, lambda _: None)
        return renewed

    def skip(self, topic: Topic, until: int) -> None:
        release(self._renewal.skip(topic, until), self._clock.monotonic(), self.turns.take, lambda _: None)

    def call_when_told(self, topic: Topic, callback: Callable[[], None]) -> bool:
        return self._renewal.call_when_told(topic, callback)

    def remove_topic(self, topic: Topic) -> None:
        if not self._is_current(topic):  # it was idle, and is being deleted
            self.idle.forget(topic)
            return
        topic.flush()
        del self._topics[topic.name]
        self.ended_topics.add(topic.seq, topic.bytes)
        self._names.remove(topic.name)
        self._creations.ended(topic)
        self.idle.forget(topic)
        self.clients.end(topic)
        log.info("Topic deleted: %(topic)s", {"topic": topic.name})
        self._memberships.end(topic)
        self.forget(topic, lambda _: None)  # in turns: a million events at once take 100 ms

    def deliver(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        if topic.expiring:
            topic.remove_expired(self._clock.monotonic(), len(events))
        if topic.add(events):
            self._flush_later(topic)

    def deliver_all(self, topic: Topic, events: Sequence[StoredEvent]) -> None:
        if topic.expiring:
            topic.remove_expired(self._clock.monotonic(), len(events))
        if topic.add_list(events):
            self._flush_later(topic)

    def forget(self, topic: Topic, done: Callable[[int], None]) -> None:
        release(topic.ring.clear(), self._clock.monotonic(), self.turns.take, done)

    def begin_to_expire(self, topic: Topic) -> None:
        topic.expiring = True

    def trim(self, topic: Topic, first: int, size: int) -> None:
        topic.trim(first, size)

    # Topics that begin and end

    def _add(self, topic: Topic) -> None:
        self._topics[topic.name] = topic
        self.ended_topics.add(-topic.seq, -topic.bytes)  # those of an earlier run, or of a topic that ends again
        self._names.add(topic.name)
        self._creations.began(topic)
        if topic.options.presence:
            self.clients.begin(topic)
        self.idle.watch(topic)
        self._memberships.begin(topic)

    def _put_back(self, topic: Topic) -> None:
        if topic.name not in self._topics:
            self._add(topic.latest)

    def _is_current(self, topic: Topic) -> bool:
        return self._topics.get(topic.name) is topic
