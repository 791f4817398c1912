"""The review of a subscriber after its rights have changed, in turns: its subscriptions may be many. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pubsub.core.memberships import Memberships
from pubsub.core.placement import topic_of
from pubsub.core.subscription import Book
from pubsub.protocol.patterns import has_wildcard

if TYPE_CHECKING:
    from pubsub.core.lane import Subscriber
    from pubsub.core.subscription import Grant
    from pubsub.core.topic import Topic

REVIEWED: Final = 500  # subscriptions that are compared with the rights in one turn: up to 10 µs each
COMPARED: Final = 1_000  # topics that are compared with all patterns in one turn: about 3 ms


class Review:
    """See the module. ``topics()`` returns all topics.

    First subscriptions end that the rights do not allow. Then the subscriber leaves topics of its patterns that they do
    not allow, changes lanes where their filters have changed, and enters topics that they newly allow.
    """

    def __init__(
        self, memberships: Memberships, subscriber: Subscriber, grant: Grant, topics: Callable[[], list[Topic]]
    ) -> None:
        self._memberships = memberships
        self._subscriber = subscriber
        self._grant = grant
        self._topics = topics
        self._later = memberships.take_turn

    def begin(self) -> None:
        self._check_names(self._subscriber.subscriptions)

    def _check_names(self, names: list[str]) -> None:
        subscriber = self._subscriber
        for name in names[:REVIEWED]:
            if not subscriber.is_subscribed(name):
                continue
            if not self._allows(name):
                self._forbid(name)
            elif subscriber.book is None and self._grant.filters_for(name):
                subscriber.book = Book(self._grant, subscriber.subscriptions)
        if rest := names[REVIEWED:]:
            self._later(partial(self._check_names, rest))
        elif subscriber.book is not None:
            self._place(list(subscriber.lanes))

    def _forbid(self, name: str) -> None:
        """End a subscription, and tell the client."""
        subscriber, memberships = self._subscriber, self._memberships
        lane = subscriber.lanes.get(name)
        if lane is not None and subscriber.book is not None:
            memberships.place(name, subscriber)  # it ends all that lead to this topic
            return
        topic = None if lane is None else topic_of(lane)
        tell = partial(memberships.tell_unsubscribed, topic, subscriber, name, "forbidden")
        memberships.withdraw(name, subscriber, tell)

    def _allows(self, name: str) -> bool:
        return self._grant.may_subscribe_some(name) if has_wildcard(name) else self._grant.may_subscribe(name)

    def _place(self, names: list[str]) -> None:
        subscriber = self._subscriber
        for name in names[:REVIEWED]:
            if name in subscriber.lanes:
                self._memberships.place(name, subscriber)
        if rest := names[REVIEWED:]:
            self._later(partial(self._place, rest))
        else:
            self._enter(self._topics())

    def _enter(self, topics: list[Topic]) -> None:
        """Enter the topics of the patterns that are newly allowed, from now on."""
        subscriptions = self._subscriber.book.subscriptions if self._subscriber.book is not None else {}
        if not any(map(has_wildcard, subscriptions)):
            return
        for topic in topics[:COMPARED]:
            self._memberships.announce(self._subscriber, topic, after=self._memberships.start_of(topic))
        if rest := topics[COMPARED:]:
            self._later(partial(self._enter, rest))
