"""The beginning of a subscription: the topics that it reaches, the start in each, and the answer. No I/O.

A pattern may reach thousands of topics, so all of it runs in slices. The subscriber enters each topic as one that
arrives, and gets no event there before :meth:`Joining.advance`: the answer comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType

from pubsub.core.catchup import CatchUp, ReplayStart
from pubsub.protocol.errors import Failure, TopicNotFound
from pubsub.protocol.patterns import literal_prefix, matcher
from pubsub.protocol.requests import Position

if TYPE_CHECKING:
    from pubsub.core.history import HistoryReader
    from pubsub.core.joined import Joined
    from pubsub.core.lane import Subscriber
    from pubsub.core.memberships import Memberships
    from pubsub.core.subscription import Asked, Subscription
    from pubsub.core.topic import Topic
    from pubsub.filters.filters import Matcher

    TopicsFrom = Callable[[str, int], list[Topic]]

COMPARED: Final = 5000  # topics that are compared with a pattern in one turn: about 2 ms
COMPARED_AT_FIRST: Final = 200  # of them in the step of the request: a client may send several at once
ENTERED: Final = 100  # topics that are entered, or whose catch-ups advance, in one turn: 10 to 20 µs each


def is_ahead(asked: Asked, topics: Mapping[str, Topic]) -> bool:
    """True if a client that resumes knows of a life or a message of a topic that is not known here."""
    resume = asked.resume
    if resume is None:
        return False
    if not asked.subscription.is_pattern:
        position = resume.get(asked.subscription.name, None)
        return position is not None and _is_ahead(position, topics.get(asked.subscription.name))
    if not isinstance(resume, dict):  # a cursor of this server
        return False
    return any(_is_ahead(position, topics.get(name)) for name, position in resume.items())


def _is_ahead(position: Position, topic: Topic | None) -> bool:
    return topic is None or position.epoch != topic.epoch or position.seq > topic.seq


class Joining:
    """See the module. ``topics`` has what was joined, once the answer has come."""

    def __init__(
        self,
        asked: Asked,
        subscriber: Subscriber,
        memberships: Memberships,
        history: HistoryReader,
        answer: Callable[[Joining | Failure], None],
    ) -> None:
        self.asked = asked
        self.topics: list[Joined] = []
        self._subscriber = subscriber
        self._memberships = memberships
        self._history = history
        self._answer = answer
        self._waiting: deque[Topic] = deque()
        self._seen: set[Topic] = set()  # all that were waiting
        self._appeared: list[Topic] = []  # since the subscription began
        self._found = False  # the start in the present topic
        self._late = False  # it comes later
        self._replaced: Subscription | None = None  # the earlier subscription to the same pattern
        self._failed = False

    @property
    def recovered(self) -> bool | UnsetType:
        """After a resume, True if nothing is missing in any topic."""
        if self.asked.resume is None:
            return UNSET
        return all(each.recovered is not False for each in self.topics)

    def join_topic(self, found: Topic | Failure) -> None:
        """Join one topic, then answer; or answer that it could not be created."""
        if isinstance(found, Failure):
            self._answer(found)
        else:
            self._waiting.append(found)
            self._join_next()

    def join_pattern(self, topics_from: TopicsFrom) -> None:
        """Join the topics that the pattern covers, and those that appear meanwhile, then answer.

        ``topics_from(first, limit)`` returns topics by name, from ``first`` on: only those are compared that begin as
        the pattern does.
        """
        self._replaced = self._memberships.begin_pattern(self.asked, self._subscriber, self)
        self._compare(topics_from, literal_prefix(self.asked.subscription.name), COMPARED_AT_FIRST)

    def _compare(self, topics_from: TopicsFrom, first: str, limit: int) -> None:
        pattern, may_subscribe = self.asked.subscription.name, self.asked.grant.may_subscribe
        covers = matcher(pattern)
        topics = topics_from(first, limit + 1)
        for topic in topics[:limit]:
            if covers(topic.name) and topic not in self._seen and may_subscribe(topic.name):
                self._seen.add(topic)
                self._waiting.append(topic)
        if len(topics) > limit and topics[limit].name.startswith(literal_prefix(pattern)):
            self._memberships.take_turn(partial(self._compare, topics_from, topics[limit].name, COMPARED))
        else:
            self._join_next()

    def add_topic(self, topic: Topic) -> None:
        """Join a topic that has just appeared too. After the answer it waits until the client knows that."""
        if topic not in self._seen:
            self._seen.add(topic)
            self._appeared.append(topic)
            self._waiting.append(topic)

    def confirm(self) -> None:
        """Drop the topics that have ended since they were entered. Raises TopicNotFound if it was the only one.

        To be called before the client is told.
        """
        for each in self.topics:
            if each.topic.successor is not None:
                each.topic = each.topic.latest
                self._memberships.tell_of_renewal(each.topic, self._subscriber)
                each.seq = each.topic.seq
                if each.catch_up is not None and (position := self._position_in(each.topic)) is not None:
                    each.catch_up.resume(position)
        self.topics = [each for each in self.topics if self._memberships.is_current(each.topic)]
        if not self.topics and not self.asked.subscription.is_pattern:
            raise TopicNotFound(self.asked.subscription.name)

    def advance(self) -> None:
        """Send what is to be replayed, and what has appeared since the answer, in turns if there is much."""
        self._memberships.end_joining(self._subscriber, self)
        self._count()
        catch_ups = [each.catch_up for each in self.topics if each.catch_up is not None]
        for catch_up in catch_ups:  # the client knows of all, also of those whose turn comes later
            catch_up.begun = True
        self._advance_some(catch_ups)
        self._let_in(list(self._waiting))
        self._waiting.clear()

    def _count(self) -> None:
        arrivals = self._memberships.arrivals
        if not self._subscriber.arrived:
            self._subscriber.arrived = True
            arrivals.add(moved=bool(self.asked.resume))  # without a single position it was nowhere before
        if isinstance(recovered := self.recovered, bool):
            arrivals.resumes[recovered] += 1

    def _advance_some(self, catch_ups: list[CatchUp]) -> None:
        """Advance some, as long as the socket takes what they send. The others have one turn, not one each."""
        done, room = 0, ENTERED
        for catch_up in catch_ups[:ENTERED]:
            if self._subscriber.lagging or room <= 0:
                break
            room -= catch_up.effort
            catch_up.advance()
            done += 1
        if rest := catch_ups[done:]:
            self._subscriber.take_turn_when_ready(partial(self._advance_some, rest))

    def _let_in(self, topics: list[Topic]) -> None:
        for topic in topics[:ENTERED]:
            self._memberships.let_in(self._subscriber, topic.latest)
        if rest := topics[ENTERED:]:
            self._memberships.take_turn(partial(self._let_in, rest))

    def _join_next(self) -> None:
        """Join topics until the start in one comes later, or the turn is over."""
        for _ in range(ENTERED):
            if not self._waiting:
                break
            topic = self._waiting.popleft().latest
            self._found = False
            if self._memberships.is_current(topic):
                self._find_start(topic)
            else:  # it has ended while it waited
                self._enter(topic, TopicNotFound(topic.name))
            if not self._found:
                self._late = True
                return
            if self._failed:
                return
        if self._waiting:
            self._memberships.take_turn(self._join_next)
        else:
            self._answer(self)

    def _find_start(self, topic: Topic) -> None:
        position, matcher = self._position_in(topic), self._matcher_of(topic)
        self._history.find_start(topic, self.asked.last_n, position, matcher, partial(self._enter, topic))

    def _position_in(self, topic: Topic) -> Position | None:
        """The client's position in a topic. A topic of a pattern that it does not name has appeared meanwhile."""
        if self.asked.resume is None:
            return None
        beginning = Position(topic.epoch, 0) if self.asked.subscription.is_pattern else None
        return self.asked.resume.get(topic.name, beginning)

    def _matcher_of(self, topic: Topic) -> Matcher | None:
        return self._memberships.matcher_of(self.asked, topic)

    def _enter(self, topic: Topic, start: ReplayStart | Failure) -> None:
        if topic.successor is not None:  # since the question
            self._find_start(topic.latest)
            return
        self._found = True
        try:
            if isinstance(start, Failure):
                raise start
            self.topics.append(self._memberships.enter(start, self._subscriber, self.asked))
        except TopicNotFound as failure:
            if not self.asked.subscription.is_pattern:
                self._fail(failure)
        except Failure as failure:
            self._fail(failure)
        if self._late:
            self._late = False
            if not self._failed:
                self._join_next()

    def _fail(self, failure: Failure) -> None:
        self._failed = True
        if not self.asked.subscription.is_pattern:
            self._answer(failure)
            return
        self._memberships.end_joining(self._subscriber, self)
        name, end = self.asked.subscription.name, partial(self._end_failed, failure)
        self._memberships.withdraw(name, self._subscriber, end, self._replaced)

    def _end_failed(self, failure: Failure) -> None:
        """Answer. Where other subscriptions lead to the topics, the subscriber stays there, or enters now."""
        for topic in self._appeared:
            self._memberships.readmit(self._subscriber, topic.latest)
        self._advance_some([each.catch_up for each in self.topics if each.catch_up is not None])
        self._answer(failure)
