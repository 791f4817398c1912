"""Placement: the lane of a topic to which the subscriptions of a subscriber lead. No I/O.

A subscriber is in one lane of a topic, whatever number of its subscriptions reach the topic. So a message comes once.
The lane lets an event through that matches all filters of the rights, and the filter of any of the subscriptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from pubsub.core.catchup import CatchUp, ReplayStart
from pubsub.core.clock import Clock
from pubsub.core.filtered_lane import Evaluator, FilteredLane
from pubsub.core.lane import LANES_IN_A_TURN, Lane
from pubsub.core.pattern_index import PatternIndex
from pubsub.core.presence import Presence
from pubsub.core.spans import Span, overlay
from pubsub.core.topic import Topic
from pubsub.core.trail import MOST, moment_of, since
from pubsub.filters.filters import Filters, Matcher
from pubsub.protocol.errors import LimitExceeded

if TYPE_CHECKING:
    from pubsub.core.counts import MessageCount
    from pubsub.core.event import Encoding
    from pubsub.core.lane import Subscriber
    from pubsub.core.subscription import Asked, Grant, Subscription


class Placement:
    """See the module. ``index`` has all patterns.

    ``max_filters``: the most filters of one topic that differ; 0 is no limit.
    ``presence`` learns who enters and leaves a topic with that option. ``delivered`` counts what the lanes write.
    """

    def __init__(
        self,
        clock: Clock,
        evaluator: Evaluator,
        filters: Filters,
        max_filters: int,
        presence: Presence,
        delivered: MessageCount,
    ) -> None:
        self.index = PatternIndex()
        self._clock = clock
        self._evaluator = evaluator
        self._filters = filters
        self._max_filters = max_filters
        self._presence = presence
        self._delivered = delivered

    def reaching(self, name: str, subscriber: Subscriber) -> list[Subscription]:
        """The subscriptions of a subscriber with a book that reach a topic."""
        assert subscriber.book is not None, "without one, the only subscription is the topic's own"
        found = [each[subscriber] for each in self.index.find(name) if subscriber in each]
        if (own := subscriber.book.subscriptions.get(name)) is not None:
            found.append(own)
        return found

    def join_filters(self, subscriptions: Iterable[Subscription], grant: Grant, name: str) -> Matcher | None:
        """The filter that lets through what any of the subscriptions wants and the rights allow; None if it is all."""
        wanted = [each.filter for each in subscriptions]
        required = grant.filters_for(name)
        filters = [each for each in wanted if each is not None]
        if len(filters) < len(wanted):
            return self._filters.join(required, None) if required else None
        return self._filters.join(required, filters)

    def find_lane(self, topic: Topic, encoding: Encoding, matcher: Matcher | None, leaving: Lane | None = None) -> Lane:
        """The lane with this encoding and filter, made for its first member. Raises LimitExceeded.

        ``leaving``: the lane of the topic that this member is about to leave.
        """
        if (lane := topic.find_lane(encoding, matcher)) is not None:
            return lane
        if matcher is None:
            lane = Lane(topic, encoding, self._delivered)
        else:
            if not self._has_room(topic, matcher, leaving):
                raise LimitExceeded(f"topic '{topic.name}' has its {self._max_filters} filters (MAX_FILTERS_PER_TOPIC)")
            lane = FilteredLane(topic, encoding, self._delivered, matcher, self._evaluator)
        topic.add_lane(lane)
        return lane

    def _has_room(self, topic: Topic, matcher: Matcher, leaving: Lane | None) -> bool:
        """True if a topic may have this filter: not too many others will differ."""
        others = {lane.matcher for lane in topic.lanes if lane is not leaving or lane.size > 1} - {None, matcher}
        return not self._max_filters or len(others) < self._max_filters

    def arrive(
        self,
        start: ReplayStart,
        subscriber: Subscriber,
        lane: Lane,
        grant: Grant,
        spans: Sequence[Span] = (),
        *,
        certain: bool = True,
    ) -> CatchUp:
        """Make the subscriber a member that arrives, from ``start`` on. An earlier membership in the topic ends.

        ``certain`` is False if several subscriptions have filters of their own.
        """
        name = start.topic.name
        old = subscriber.lanes.get(name, lane)
        old.settle()
        running = old.catch_up_of(subscriber)
        if name in subscriber.lanes:
            subscriber.ensure_trail().leave(old.stay_of(subscriber))
        catch_up = CatchUp(start, lane, subscriber, self._clock, grant, self.join_filters, list(spans), certain=certain)
        catch_up.begun = name in subscriber.lanes and (running is None or running.begun)
        subscriber.lanes[name] = lane
        lane.arrive(subscriber, catch_up)
        if old is not lane:
            _leave(old, subscriber)
        if start.topic.options.presence:
            self._presence.enter(start.topic, subscriber, grant.client_id)
        return catch_up

    def arrive_again(
        self, start: ReplayStart, subscriber: Subscriber, lane: Lane, asked: Asked, others: Sequence[Subscription]
    ) -> CatchUp | None:
        """Move a member that ``others`` have led to the topic, and begin the replay that a new request asks for.

        None if it asks for none. A catch-up that runs goes on for the others.
        """
        topic, subscription = start.topic, asked.subscription
        running = subscriber.lanes[topic.name].catch_up_of(subscriber)
        if running is not None:
            running.forget(subscription.name)
            running.limit(others)
        if start.is_live:
            self.move(topic.name, subscriber, lane)
            return None
        spans = [Span(topic.seq, [subscription])]
        if running is not None:
            spans = overlay(running.spans, running.after, start.after, subscription)
            start = start.joined(ReplayStart(topic, running.after, running.known))
        return self.arrive(start, subscriber, lane, asked.grant, spans, certain=False)

    def move(self, name: str, subscriber: Subscriber, lane: Lane) -> None:
        """Move a member to another lane of its topic. Nothing is lost or repeated, not even during its catch-up."""
        old = subscriber.lanes[name]
        topic_of(old).flush()
        old.settle()
        if old is lane:
            return
        catch_up = old.catch_up_of(subscriber)
        subscriber.lanes[name] = lane
        if catch_up is None:
            subscriber.ensure_trail().leave(old.stay_of(subscriber))
            lane.join(subscriber, since(topic_of(old).seq, moment_of(old.since_of(subscriber))))
        else:
            catch_up.lane = lane
            catch_up.certain = False
            lane.arrive(subscriber, catch_up)
        _leave(old, subscriber)

    def place(self, topic: Topic, subscriber: Subscriber, reaching: Sequence[Subscription], grant: Grant) -> None:
        """Move a member to where its subscriptions and rights lead. Raises LimitExceeded."""
        old = subscriber.lanes[topic.name]
        matcher = self.join_filters(reaching, grant, topic.name)
        self.move(topic.name, subscriber, self.find_lane(topic_of(old), subscriber.encoding, matcher, old))

    def end_lane(self, name: str, subscriber: Subscriber) -> None:
        """End a membership after the topic's last event."""
        lane = subscriber.lanes[name]
        topic_of(lane).flush()
        lane.settle()
        self.drop_lane(name, subscriber)

    def drop_unknown(self, topic: Topic, subscriber: Subscriber) -> None:
        """End a membership in this topic of which the client was not told."""
        lane = subscriber.lanes.get(topic.name)
        arrival = None if lane is None or lane.topic is not topic else lane.catch_up_of(subscriber)
        if arrival is not None and not arrival.begun:
            self.drop_lane(topic.name, subscriber)

    def drop_lane(self, name: str, subscriber: Subscriber, *, left: bool = False) -> None:
        """End a membership at once: the subscriber has everything, or its connection ends (``left``)."""
        lane = subscriber.lanes.pop(name)
        trail = subscriber.ensure_trail()
        if not trail.forgotten_all:
            trail.leave(lane.stay_of(subscriber, left=left))
        _leave(lane, subscriber)
        if lane.topic.options.presence:
            self._presence.leave(topic_of(lane), subscriber)

    def leave_lanes(self, subscriber: Subscriber) -> None:
        """End some memberships: the connection ends, and this turn may be too short for all of them."""
        if len(subscriber.lanes) > MOST:
            subscriber.ensure_trail().forget_all()
        for name in list(islice(subscriber.lanes, LANES_IN_A_TURN)):
            self.drop_lane(name, subscriber, left=True)


def topic_of(lane: Lane) -> Topic:
    """The topic of a lane, as the Broker knows it."""
    assert isinstance(lane.topic, Topic), "lanes of other sources are in no subscriber"
    return lane.topic


def _leave(lane: Lane, subscriber: Subscriber) -> None:
    lane.leave(subscriber)
    if not lane.size:
        topic_of(lane).end_empty_lanes()
