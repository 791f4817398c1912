"""Memberships: subscribers enter and leave topics as their subscriptions say, and as topics begin and end. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from pubsub.core.catchup import ReplayStart
from pubsub.core.clock import Clock
from pubsub.core.counts import ArrivalCounts
from pubsub.core.joined import Beginning, Joined
from pubsub.core.lane import LANES_IN_A_TURN
from pubsub.core.log import Done, ignore
from pubsub.core.placement import Placement, topic_of
from pubsub.core.renewal import Renewal
from pubsub.core.spans import Span
from pubsub.core.subscription import GONE, Asked, Book, Subscription
from pubsub.core.topic import Topic
from pubsub.filters.filters import Matcher
from pubsub.protocol.errors import LimitExceeded, TopicNotFound
from pubsub.protocol.patterns import covers
from pubsub.protocol.replies import Info, encode

if TYPE_CHECKING:
    from pubsub.core.lane import Subscriber

log = logging.getLogger(__name__)

MEMBERS: Final = 100  # memberships that begin or end in one turn, 10 to 20 µs each
PLACED: Final = 500  # memberships that are compared with changed subscriptions in one turn


@dataclass(slots=True)
class Ending:
    """The end of a topic: ``notice`` goes to its members in turns, then ``done`` is called."""

    notice: bytes
    done: Done = ignore


class Memberships:
    """See the module. ``is_current``: the topic has not ended. ``take_turn(work)`` calls ``work`` in a later tick."""

    def __init__(
        self,
        placement: Placement,
        renewal: Renewal,
        clock: Clock,
        take_turn: Callable[[Callable[[], None]], None],
        is_current: Callable[[Topic], bool],
    ) -> None:
        self.take_turn = take_turn
        self.subscriber_count = 0  # clients with a subscription
        self.arrivals = ArrivalCounts()
        self._placement = placement
        self._renewal = renewal
        self._clock = clock
        self.is_current = is_current
        self._beginning: dict[Subscriber, list[Beginning]] = {}  # patterns of which the client does not know yet
        self._new: set[Topic] = set()  # topics that are not announced to all subscribers yet
        self._ending: dict[Topic, Ending] = {}  # topics that have ended, with members that are not told yet

    # Subscriptions

    def begin_pattern(self, asked: Asked, subscriber: Subscriber, joining: Beginning) -> Subscription | None:
        """Add a subscription to a pattern, whose topics are to be entered by ``joining``. Returns the one it replaces.

        Topics that appear before :meth:`end_joining` are the joining's too.
        """
        book = self._ensure_book(subscriber, asked)
        if book.closed:
            return None
        replaced = book.subscriptions.get(asked.subscription.name)
        self._beginning.setdefault(subscriber, []).append(joining)
        self._add(asked.subscription, book, subscriber)
        return replaced

    def end_joining(self, subscriber: Subscriber, joining: Beginning) -> None:
        """All topics of the new subscription are entered, and the client knows of it."""
        if others := [each for each in self._beginning.pop(subscriber, ()) if each is not joining]:
            self._beginning[subscriber] = others

    def let_in(self, subscriber: Subscriber, topic: Topic) -> None:
        """Let a subscriber into a topic that appeared while it subscribed to a pattern."""
        lane = subscriber.lanes.get(topic.name)
        if lane is not None and lane.topic is topic:  # by another pattern
            self.place(topic.name, subscriber)
        else:
            self.announce(subscriber, topic, after=0)

    def readmit(self, subscriber: Subscriber, topic: Topic) -> None:
        """Let a subscriber into a topic that appeared during a subscription which has failed."""
        self._placement.drop_unknown(topic, subscriber)
        self.announce(subscriber, topic, after=0)

    def matcher_of(self, asked: Asked, topic: Topic) -> Matcher | None:
        """The filter of one request for a topic, with those of the rights."""
        if asked.subscription.filter is None and not asked.grant.filters_for(topic.name):
            return None
        return self._placement.join_filters([asked.subscription], asked.grant, topic.name)

    def enter(self, start: ReplayStart, subscriber: Subscriber, asked: Asked) -> Joined:
        """Make the subscriber a member of a topic, as one that arrives. Raises TopicNotFound, LimitExceeded.

        The caller lets its catch-up advance; what it sends before comes before all events.
        """
        topic, placement = start.topic, self._placement
        if not self.is_current(topic) or (subscriber.book is not None and subscriber.book.closed):
            raise TopicNotFound(topic.name)
        topic.flush()
        self._end_stale(topic, subscriber)
        if subscriber.book is None and self.matcher_of(asked, topic) is None:
            self.subscriber_count += not subscriber.lanes
            lane = placement.find_lane(topic, subscriber.encoding, None)
            return Joined(topic, topic.seq, placement.arrive(start, subscriber, lane, asked.grant))
        book = self._ensure_book(subscriber, asked)
        others = self._others(topic, subscriber, asked.subscription)
        matcher = placement.join_filters([*others, asked.subscription], book.grant, topic.name)
        lane = placement.find_lane(topic, subscriber.encoding, matcher, subscriber.lanes.get(topic.name))
        if not asked.subscription.is_pattern:
            self._add(asked.subscription, book, subscriber)
        if not others:
            spans = [Span(topic.seq, [asked.subscription])]
            return Joined(topic, topic.seq, placement.arrive(start, subscriber, lane, book.grant, spans))
        return Joined(topic, topic.seq, placement.arrive_again(start, subscriber, lane, asked, others))

    def _others(self, topic: Topic, subscriber: Subscriber, subscription: Subscription) -> list[Subscription]:
        """The other subscriptions that reach the topic. By them the subscriber is a member, at least from now on."""
        others = [each for each in self._placement.reaching(topic.name, subscriber) if each.name != subscription.name]
        if topic.name not in subscriber.lanes:  # a new topic, which was not announced yet
            beginning = [each.asked.subscription for each in self._beginning.get(subscriber, ())]
            if known := [each for each in others if each not in beginning]:
                self._announce_by(subscriber, topic, known, after=self.start_of(topic))
        return others if topic.name in subscriber.lanes else []

    def withdraw(
        self, name: str, subscriber: Subscriber, done: Callable[[], None], earlier: Subscription | None = None
    ) -> None:
        """End a subscription, in turns if it reaches many topics, then call ``done``. Without one, only ``done``.

        ``earlier``: the subscription that it had replaced, and that is to be again.
        """
        before = subscriber.subscription_count
        book = subscriber.book
        reached: list[str] = []
        if book is None:
            if name in subscriber.lanes:
                self._placement.end_lane(name, subscriber)
        elif (subscription := book.subscriptions.pop(name, None)) is not None:
            if subscription.is_pattern:
                self._placement.index.remove(subscriber, name)
            reached = list(subscriber.lanes) if subscription.is_pattern else [name]
        self._recount(subscriber, before)
        if earlier is not None and book is not None and not book.closed:
            self._add(earlier, book, subscriber)
        self._place_all(name, reached, subscriber, done)

    def _place_all(self, ended: str, names: list[str], subscriber: Subscriber, done: Callable[[], None]) -> None:
        """Place a member in topics after the end of a subscription."""
        for name in names[:PLACED]:
            if (lane := subscriber.lanes.get(name)) is not None and covers(ended, name):
                if (running := lane.catch_up_of(subscriber)) is not None:
                    running.forget(ended)
                self.place(name, subscriber)
        if rest := names[PLACED:]:
            self.take_turn(partial(self._place_all, ended, rest, subscriber, done))
        else:
            done()

    def place(self, name: str, subscriber: Subscriber) -> None:
        """Put a member where its changed subscriptions and rights lead. It is told if rights or a limit end that."""
        book, topic = subscriber.book, topic_of(subscriber.lanes[name])
        assert book is not None, "others have one subscription for each topic"
        self._renewal.tell(topic, subscriber)
        reaching = self._placement.reaching(name, subscriber)
        if not reaching:
            self._placement.end_lane(name, subscriber)
        elif not book.grant.may_subscribe(name):
            self._expel(topic, subscriber, book, "forbidden")
        else:
            try:
                self._placement.place(topic, subscriber, reaching, book.grant)
            except LimitExceeded:
                self._expel(topic, subscriber, book, "limit")

    def _expel(self, topic: Topic, subscriber: Subscriber, book: Book, reason: str) -> None:
        before = subscriber.subscription_count
        self._placement.end_lane(topic.name, subscriber)
        book.subscriptions.pop(topic.name, None)
        self._recount(subscriber, before)
        self.tell_unsubscribed(topic, subscriber, topic.name, reason)

    def tell_unsubscribed(self, topic: Topic | None, subscriber: Subscriber, name: str, reason: str) -> None:
        """Tell a subscriber that it gets no more of a topic or pattern, after the topic's events that wait."""
        notice = Info(topic=name, msg="unsubscribed", reason=reason, ts=self._clock.timestamp())
        subscriber.notify(topic, encode(notice))

    def _ensure_book(self, subscriber: Subscriber, asked: Asked) -> Book:
        if subscriber.book is None:
            subscriber.book = Book(asked.grant, subscriber.subscriptions)
        return subscriber.book

    def _add(self, subscription: Subscription, book: Book, subscriber: Subscriber) -> None:
        self.subscriber_count += not book.subscriptions
        book.subscriptions[subscription.name] = subscription
        if subscription.is_pattern:
            self._placement.index.add(subscriber, subscription)

    def _recount(self, subscriber: Subscriber, before: int) -> None:
        """Count the subscriber no longer if it had subscriptions ``before`` and has none now."""
        self.subscriber_count -= before > 0 and subscriber.subscription_count == 0

    def leave(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a subscriber, in turns if they are many. Its queue stays."""
        before = subscriber.subscription_count
        book = subscriber.book
        self._beginning.pop(subscriber, None)
        if book is not None:
            book.closed = True
            for name in list(islice(book.subscriptions, LANES_IN_A_TURN)):
                if book.subscriptions.pop(name).is_pattern:
                    self._placement.index.remove(subscriber, name)
        self._placement.leave_lanes(subscriber)
        self._recount(subscriber, before)
        if subscriber.lanes or (book is not None and book.subscriptions):
            self.take_turn(partial(self.leave, subscriber))
        else:
            subscriber.book = GONE

    # Topics that begin and end

    def begin(self, topic: Topic) -> None:
        """Let a new topic in where a pattern covers it."""
        if found := self._placement.index.find(topic.name):
            self._new.add(topic)
            self._announce(topic, list(dict.fromkeys(chain.from_iterable(found))))

    def renew(self, old: Topic, new: Topic) -> None:
        """A topic goes on as another one. Those who do not know of it yet get to know the other one."""
        if old in self._new:
            self._new.add(new)

    def tell_of_renewal(self, topic: Topic, subscriber: Subscriber) -> None:
        """Tell a member of a topic now that it was renewed, if its turn has not come."""
        self._renewal.tell(topic, subscriber)

    def start_of(self, topic: Topic) -> int:
        """The ``seq`` after which a topic begins for a subscriber that enters it without a request of its own now."""
        return 0 if topic in self._new else topic.seq

    def end(self, topic: Topic) -> None:
        """End all memberships of a topic that has ended, in turns."""
        notice = encode(Info(topic=topic.name, msg="topic_deleted", ts=self._clock.timestamp()))
        self._ending[topic] = Ending(notice)
        self._end_all(topic, [member for lane in topic.lanes for member in lane.members])

    def call_when_ended(self, topic: Topic, done: Done) -> bool:
        """Call ``done`` once all members of a topic know its end. False if they know it already."""
        if topic not in self._ending:
            return False
        self._ending[topic].done = done
        return True

    def _announce(self, topic: Topic, members: list[Subscriber]) -> None:
        self._new.discard(topic)
        topic = topic.latest
        self._new.add(topic)
        for subscriber in members[:MEMBERS]:
            try:
                self.announce(subscriber, topic, after=0)
            except Exception:  # a fault of one subscriber must not keep the topic from the others
                log.exception("Internal error at a subscriber of topic %(topic)s", {"topic": topic.name})
        if rest := members[MEMBERS:]:
            self.take_turn(partial(self._announce, topic, rest))
        else:
            self._new.discard(topic)

    def announce(self, subscriber: Subscriber, topic: Topic, *, after: int) -> None:
        """Let a subscriber into a topic that one of its patterns covers, unless it is in it already."""
        book = subscriber.book
        if book is None or book.closed or not self.is_current(topic) or not book.grant.may_subscribe(topic.name):
            return
        self._end_stale(topic, subscriber)
        if topic.name in subscriber.lanes:
            return
        reaching = self._placement.reaching(topic.name, subscriber)
        for beginning in self._beginning.get(subscriber, ()):
            if beginning.asked.subscription in reaching:
                beginning.add_topic(topic)
                reaching.remove(beginning.asked.subscription)
        if reaching:
            self._announce_by(subscriber, topic, reaching, after=after)

    def _announce_by(self, subscriber: Subscriber, topic: Topic, reaching: list[Subscription], *, after: int) -> None:
        """Let a subscriber into a topic by some of its subscriptions, and tell it first."""
        assert subscriber.book is not None, "it has a subscription to a pattern"
        grant = subscriber.book.grant
        matcher = self._placement.join_filters(reaching, grant, topic.name)
        try:
            lane = self._placement.find_lane(topic, subscriber.encoding, matcher)
        except LimitExceeded:
            self.tell_unsubscribed(topic, subscriber, topic.name, "limit")
            return
        created = Info(topic=topic.name, msg="topic_created", epoch=topic.epoch, ts=self._clock.timestamp())
        subscriber.notify(topic, encode(created))
        topic.flush()
        start = ReplayStart(topic, after, told=after)
        self._placement.arrive(start, subscriber, lane, grant).advance()

    def _end_all(self, topic: Topic, members: list[Subscriber]) -> None:
        """Tell the members of a topic that it has ended, in turns: they may be many."""
        for subscriber in members[:MEMBERS]:
            try:
                self._end_membership(topic, subscriber)
            except Exception:  # a fault of one member must not keep the notice from the others
                log.exception("Internal error at the end of topic %(topic)s", {"topic": topic.name})
        if rest := members[MEMBERS:]:
            self.take_turn(partial(self._end_all, topic, rest))
        else:
            self._ending.pop(topic).done(None)

    def _end_membership(self, topic: Topic, subscriber: Subscriber) -> None:
        lane = subscriber.lanes.get(topic.name)
        if lane is None or lane.topic is not topic:
            return
        self._renewal.tell(topic, subscriber)
        arrival = lane.catch_up_of(subscriber)
        before = subscriber.subscription_count
        self._placement.end_lane(topic.name, subscriber)
        if subscriber.book is not None:
            subscriber.book.subscriptions.pop(topic.name, None)
        self._recount(subscriber, before)
        if arrival is None or arrival.begun:  # otherwise it was not told yet that it is subscribed
            subscriber.notify(topic, self._ending[topic].notice)

    def _end_stale(self, topic: Topic, subscriber: Subscriber) -> None:
        """End the membership in an earlier topic of the same name, if its end has not been told yet.

        A member of this one gets to know that it was renewed.
        """
        if topic.telling:
            self._renewal.tell(topic, subscriber)
        lane = subscriber.lanes.get(topic.name)
        if lane is not None and lane.topic is not topic:
            self._end_membership(topic_of(lane), subscriber)
