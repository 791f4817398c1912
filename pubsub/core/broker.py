"""The Broker owns the topics, and what belongs to them. It has no I/O, and each method is complete in one step.

The clock and the end of the tick are passed in, so that a test can run it step by step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType

from pubsub.core.clock import Clock
from pubsub.core.counts import ArrivalCounts, MessageCount
from pubsub.core.creation import Creations
from pubsub.core.filtered_lane import Evaluator
from pubsub.core.flushing import Flushes
from pubsub.core.history import HistoryReader, KeptEvents
from pubsub.core.idle import IdleTopics
from pubsub.core.joining import Joining, is_ahead
from pubsub.core.journals import Journals
from pubsub.core.log import ignore
from pubsub.core.losses import Losses
from pubsub.core.memberships import Memberships
from pubsub.core.names import SortedNames
from pubsub.core.placement import Placement
from pubsub.core.presence import Presence, Present
from pubsub.core.renewal import Renewal
from pubsub.core.review import Review
from pubsub.core.topic import Topic
from pubsub.core.topic_host import TopicHost
from pubsub.core.topic_rules import TopicRules
from pubsub.core.turns import Turns
from pubsub.filters.filters import Filters, Matcher
from pubsub.protocol.errors import BadRequest, Failure, TopicNotFound
from pubsub.protocol.patterns import check_pattern, check_topic, has_wildcard
from pubsub.protocol.requests import Publish, TopicOptions

if TYPE_CHECKING:
    from pubsub.core.journal import Host, Journal, Sharing
    from pubsub.core.lane import Subscriber
    from pubsub.core.log import Assigned, Done, Publisher, Purged
    from pubsub.core.subscription import Asked, Grant

log = logging.getLogger(__name__)

Kept = Callable[[KeptEvents | Failure], None]

DEFAULTS: Final = TopicOptions()
MAX_FILTERS: Final = 256  # that differ, for one topic


def nothing() -> None:
    pass


def never(_: float, __: Callable[[], None]) -> None:
    """Call nothing later: no idle topic is deleted, and no client that is away leaves."""


class Broker(TopicHost):
    """See the module. ``defer(callback)`` must run ``callback`` once, at the end of the present tick.

    ``memory``: the journal of topics that are not durable. ``make_durable`` is called for the journal of durable
    topics when the first of them is made; None where there can be none. ``shared``: the journal for all topics instead,
    if several servers share them. ``ring_size``: messages that a topic keeps unless its options say otherwise.
    ``call_later(seconds, callback)`` is the timer. ``yield_core`` is called before work that takes longer than a
    publish. The Broker is the Host of its journals; ``host_before`` makes another Host that stands before it.

    ``delivered``: the events that were written to sockets. ``ended_topics``: the messages of topics that have ended;
    the ``seq`` and ``bytes`` of the others come to it, so that a publish adds to no count. ``clients``: of the topics
    with the option ``presence``.
    """

    def __init__(
        self,
        *,
        defer: Callable[[Callable[[], None]], object],
        clock: Clock,
        memory: Journal,
        shared: Sharing | None = None,
        ring_size: int,
        max_topics: int = 0,
        max_filters: int = MAX_FILTERS,
        make_durable: Callable[[], Journal] | None = None,
        rules: TopicRules | None = None,
        call_later: Callable[[float, Callable[[], None]], object] = never,
        yield_core: Callable[[], None] = nothing,
        host_before: Callable[[Host], Host] | None = None,
    ) -> None:
        self._topics: dict[str, Topic] = {}
        self._names = SortedNames()
        self._clock = clock
        self._ring_size = ring_size
        self._journals = Journals(host_before(self) if host_before else self, memory, make_durable, shared)
        self.losses = Losses()
        self.delivered = MessageCount()
        self.ended_topics = MessageCount()
        self.filters = Filters()
        self.yield_core = yield_core
        self.turns = Turns(defer, yield_core)
        self._evaluator = Evaluator(self.turns.take, self._heed_filters)
        self.flushes = Flushes(defer, self._evaluator, clock.monotonic)
        self._flush_later = self.flushes.add
        self.heed_log_level()
        self._history = HistoryReader(clock, self.turns.take, self._is_current, self._journals.bound)
        self.clients = Presence(clock, defer=defer, take_turn=self.turns.take, call_later=call_later)
        placement = Placement(clock, self._evaluator, self.filters, max_filters, self.clients, self.delivered)
        self._renewal = Renewal(self.clients, clock, self.turns.take)
        self._memberships = Memberships(placement, self._renewal, clock, self.turns.take, self._is_current)
        self._obey(rules or TopicRules(), max_topics, call_later)

    def _obey(
        self, rules: TopicRules, max_topics: int, call_later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        """Create and delete topics as the rules say."""
        self.rules = rules
        self._creations = Creations(
            self._topics, self._journals.of, rules, ring_size=self._ring_size, max_topics=max_topics
        )
        self.idle = IdleTopics(
            rules,
            now=self._clock.monotonic,
            call_later=call_later,
            take_turn=self.turns.take,
            remove=self.remove_topic,
            put_back=self._put_back,
        )

    @property
    def topics(self) -> list[Topic]:
        """All topics, in the order of their creation."""
        return list(self._topics.values())

    def topics_from(self, first: str, limit: int) -> list[Topic]:
        """The first ``limit`` topics by name whose name is not below ``first``."""
        return [self._topics[name] for name in self._names.starting_at(first, limit)]

    @property
    def topic_count(self) -> int:
        return len(self._topics)

    @property
    def subscriber_count(self) -> int:
        """The number of clients with a subscription."""
        return self._memberships.subscriber_count

    @property
    def arrivals(self) -> ArrivalCounts:
        return self._memberships.arrivals

    @property
    def failure(self) -> str:
        """The reason for which durable messages cannot be stored; empty if they can."""
        return "" if self._journals.durable is None else self._journals.durable.failure

    @property
    def durable_journal(self) -> Journal | None:
        """The journal of durable topics; None before the first of them."""
        return self._journals.durable

    def call_when_writable(self, callback: Callable[[], None]) -> bool:
        """False if durable messages can be taken in now. Otherwise ``callback`` is called once they can."""
        return self._journals.call_when_writable(callback)

    @property
    def knows_topics(self) -> bool:
        """False before the journal that servers share has told of its topics."""
        return self._journals.shared is None or self._journals.shared.synced_once

    def sync(self, done: Done) -> None:
        """Call ``done`` once all is known that other servers have done; or with a failure, after a bounded time."""
        self._journals.sync(done)

    def may_wait(self, name: str) -> bool:
        """True if a publish to the topic waits for its journal."""
        if self.shares_topics:
            return True
        topic = self._topics.get(name)
        return (self.rules.options_of(name, {}) if topic is None else topic.options).durable

    def topic(self, name: str) -> Topic:
        """Find a topic. Raises TopicNotFound; BadRequest if the name is not valid."""
        topic = self._topics.get(name)
        if topic is None:
            check_topic(name)
            raise TopicNotFound(name)
        return topic

    def find_topic(self, name: str) -> Topic:
        """Find a topic. Raises TopicNotFound for every other name, valid or not."""
        if (topic := self._topics.get(name)) is None:
            raise TopicNotFound(name)
        return topic

    def create_topic(self, name: str, options: TopicOptions = DEFAULTS, done: Done = ignore) -> None:
        """Create a topic, then call ``done``. Raises BadRequest, TopicExists, LimitExceeded."""
        self._creations.create(name, options, done)

    def restore_topics(self) -> None:
        """Add the durable topics of the last run. Raises JournalError."""
        self._journals.open_durable().restore()

    def delete_topic(self, name: str, done: Done = ignore, expect_seq: int | UnsetType = UNSET) -> None:
        """Delete a topic, tell its subscribers after its last event, then call ``done``. Raises TopicNotFound.

        ``expect_seq``: see TopicLog.
        """
        topic = self.find_topic(name)
        topic.log.delete(lambda failure: self._end_deletion(topic, failure, done), expect_seq)

    def publish(self, requests: Sequence[Publish], publisher: Publisher) -> None:
        """Publish messages to one topic; ``publisher`` learns the outcome of each.

        Raises TopicNotFound, BadRequest, LimitExceeded; then none is published.
        """
        name = requests[0].topic
        topic = self._topics.get(name)
        log = self._creations.log_for_use(name, requests) if topic is None else topic.log
        log.append(requests, publisher)

    def exists(self, name: str) -> bool:
        return name in self._topics

    def publish_all(self, name: str, requests: Sequence[Publish], client_id: str, answer: Assigned) -> None:
        """Publish messages to one topic, all of them or none. Raises TopicNotFound, BadRequest, LimitExceeded.

        ``client_id``: the publisher's, empty if it has none. ``answer`` gets the outcome of each message, or a failure.
        """
        topic = self._topics.get(name)
        log = self._creations.log_for_use(name, requests) if topic is None else topic.log
        log.append_all(requests, client_id, answer)

    def purge(self, name: str, done: Purged) -> None:
        """Forget the messages that a topic keeps; ``done`` gets their number. Raises TopicNotFound."""
        self.find_topic(name).log.purge(done)

    def history_after(self, name: str, seq: int, limit: int, answer: Kept, matcher: Matcher | None = None) -> None:
        """Read up to ``limit`` kept events that follow ``seq`` and match. Raises TopicNotFound, BadRequest."""
        self._history.read_after(self.topic(name), seq, limit, matcher, answer)

    def history_last(self, name: str, count: int, answer: Kept, matcher: Matcher | None = None) -> None:
        """Read those of the newest ``count`` events that match and are kept. Raises TopicNotFound, BadRequest."""
        self._history.read_last(self.topic(name), count, matcher, answer)

    def subscribe(self, asked: Asked, subscriber: Subscriber, answer: Callable[[Joining | Failure], None]) -> None:
        """Subscribe to a topic, or to all that a pattern covers. Raises TopicNotFound, BadRequest, LimitExceeded.

        An earlier subscription to the same name ends. The answer comes in this step or later. Then the caller tells the
        client, and lets the Joining advance: events come from then on.
        """
        if self.shares_topics and is_ahead(asked, self._topics):
            self._journals.sync(partial(self._join_synced, asked, subscriber, answer))
        else:
            self._join(asked, subscriber, answer)

    def _join_synced(
        self,
        asked: Asked,
        subscriber: Subscriber,
        answer: Callable[[Joining | Failure], None],
        failure: Failure | None,
    ) -> None:
        if failure is not None:
            answer(failure)
            return
        try:
            self._join(asked, subscriber, answer)
        except Failure as found:
            answer(found)

    def _join(self, asked: Asked, subscriber: Subscriber, answer: Callable[[Joining | Failure], None]) -> None:
        joining = Joining(asked, subscriber, self._memberships, self._history, answer)
        if asked.subscription.is_pattern:
            check_pattern(asked.subscription.name)
            joining.join_pattern(self.topics_from)
        else:
            self._creations.use(asked.subscription.name, joining.join_topic)

    def unsubscribe(self, name: str, subscriber: Subscriber, done: Callable[[], None]) -> None:
        """End a subscription, then call ``done``; without one, only that. Raises TopicNotFound, BadRequest."""
        if has_wildcard(name):
            check_pattern(name)
        else:
            self.topic(name)
        self._memberships.withdraw(name, subscriber, done)

    def presence(self, name: str) -> Present:
        """The clients of a topic. Raises TopicNotFound; BadRequest for a topic without the option."""
        topic = self.topic(name)
        if not topic.options.presence:
            raise BadRequest(f"topic: '{name}' was created without the option presence")
        return self.clients.describe(topic)

    def review(self, subscriber: Subscriber, grant: Grant) -> None:
        """Apply the changed rights of a subscriber, in turns."""
        Review(self._memberships, subscriber, grant, lambda: self.topics).begin()

    def leave(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a subscriber, in turns if they are many. Its queue stays."""
        self._memberships.leave(subscriber)

    @property
    def filters_busy(self) -> bool:
        return self._evaluator.busy

    def call_when_filtered(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once few events wait for the evaluation of filters: publishers have to wait for that."""
        self._evaluator.call_when_idle(callback)

    def _heed_filters(self) -> None:
        # One flag, since a look at it is a part of each publish.
        self.heeds_publishes = self.filters_busy or self.logs_publishes

    def heed_log_level(self) -> None:
        """Log each publish, or none, as the level of the log now says."""
        self.logs_publishes = log.isEnabledFor(logging.DEBUG)
        self._heed_filters()

    def flush(self) -> None:
        """Deliver all events that wait."""
        self.flushes.flush()

    def settle(self) -> None:
        """Deliver all events that wait, also those that wait for the evaluation of filters."""
        self.flushes.settle()

    def _end_deletion(self, topic: Topic, failure: Failure | None, done: Done) -> None:
        if failure is not None or not self._memberships.call_when_ended(topic, done):
            done(failure)
