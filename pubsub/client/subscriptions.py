"""The subscriptions of one connection: asked for, begun, refused, ended, and asked for again. It must never wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from pubsub.client.errors import (
    AnswerTimeout,
    Forbidden,
    Internal,
    LimitExceeded,
    PubsubError,
    ServerFault,
    TopicNotFound,
)
from pubsub.client.events import NoticeKind
from pubsub.client.exchange import Answer, Exchange, Question
from pubsub.client.feed import Feed, Missing
from pubsub.client.host import Host, Timer
from pubsub.client.inbox import InboxRules
from pubsub.client.interest import Interest, Status, Wish
from pubsub.client.mending import mend
from pubsub.client.pauses import Pauses
from pubsub.client.replies import Ack, Event, Info
from pubsub.client.requests import Unsubscribe, covers
from pubsub.client.stalls import Stalls
from pubsub.protocol.patterns import overlap

__all__ = ["Subscriptions"]

LONGEST_ABSENCE_SEC: Final = 5.0
"""The longest pause between two requests for a topic that is gone, or for what the server failed to do."""


class Subscriptions:
    """See the module. No two of them cover the same topic: then each event belongs to one, and its filter is right.

    ``full``: those whose users do not keep up.
    """

    def __init__(self, host: Host, exchange: Exchange) -> None:
        self.feeds: dict[str, Feed] = {}
        """The feeds of the present connection by topic."""
        self.full: set[Interest] = set()
        self._host = host
        self._exchange = exchange
        self._client_id = ""
        self._is_open = False
        self._ended: PubsubError | None = None
        self._interests: dict[str, Interest] = {}
        self._answered: dict[Interest, Callable[[PubsubError | None], None]] = {}
        self._asked: dict[Interest, Question] = {}
        self._leaving: dict[str, Question] = {}
        self._pauses: dict[Interest, Pauses] = {}
        self._timers: dict[Interest | Missing, Timer] = {}
        self._stalls = Stalls(host, self._interests, self.full)

    @property
    def paused(self) -> bool:
        """True if a user does not keep up, and no other user waits for what would come later."""
        return bool(self.full) and not self._stalls.found

    def __bool__(self) -> bool:
        return bool(self._interests)

    def overlaps(self, name: str) -> bool:
        """Return True if a topic or pattern covers a topic that is subscribed to already."""
        return name in self._interests or any(overlap(name, other) for other in self._interests)

    def add(self, wish: Wish, rules: InboxRules, answered: Callable[[PubsubError | None], None]) -> Interest:
        """Subscribe, now and in each later connection. ``answered`` gets None once the server has acknowledged it."""
        assert not self.overlaps(wish.topic), "it has a connection of its own"
        interest = Interest(wish, rules, self._ask_history, self._note_room)
        self._interests[wish.topic] = interest
        self._answered[interest] = answered
        self._pauses[interest] = Pauses(self._host.random, LONGEST_ABSENCE_SEC)
        if (leaving := self._leaving.pop(wish.topic, None)) is not None:
            self._exchange.forget(leaving)  # the server could refuse it now, and take it after the subscribe
        if self._ended is not None:
            self._end(interest, self._ended)
        self._ask(interest)
        return interest

    def remove(self, interest: Interest) -> None:
        """Unsubscribe. It does not wait for the answer: what comes up to then is ignored."""
        self._answered.pop(interest, None)
        if interest.status in (Status.ASKED, Status.ACTIVE):
            self._leave(interest)
        self._end(interest, None)

    def _leave(self, interest: Interest) -> None:
        if (asked := self._asked.pop(interest, None)) is not None:
            self._exchange.forget(asked)  # the server could refuse it now, and take it after the unsubscribe
        request = Unsubscribe(topic=interest.name, client_id=self._client_id)
        self._leaving[interest.name] = self._exchange.ask(request, partial(self._left, interest.name))

    def open(self, client_id: str) -> None:
        """Begin a connection, and subscribe to all again."""
        self._client_id = client_id
        self._is_open = True
        self._stalls.watch()
        for interest in self._interests.values():
            self._ask(interest)

    def close(self) -> None:
        """End a connection, and all subscriptions with it."""
        self._is_open = False
        self._stalls.stop()
        self._asked.clear()
        self._leaving.clear()
        self.feeds.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for interest in self._interests.values():
            interest.disconnect()

    def end(self, error: PubsubError | None, later: PubsubError) -> None:
        """End all subscriptions for good; without an error if the user wants it. ``later``: that of further ones."""
        self._ended = later
        for interest in list(self._interests.values()):
            self._end(interest, error)

    def find_feed(self, event: Event) -> Feed | None:
        """Return the feed of a topic that has not announced itself; None if no subscription covers it."""
        interest = self._covering(event.topic)
        if interest is None or interest.status is not Status.ACTIVE:  # it is of an earlier subscription
            return None
        feed = interest.feeds.setdefault(event.topic, Feed(interest.inbox, event.topic, ""))  # its epoch is not known
        self.feeds[event.topic] = feed
        return feed

    def take(self, info: Info) -> None:
        """Take a message that is no answer."""
        match info.msg:
            case "dropped" if (feed := self.feeds.get(info.topic)) is not None:
                feed.miss(info.from_seq, info.to_seq, info.count)
            case "topic_created" | "topic_deleted" | "unsubscribed" | "joined" | "left" as kind:
                self._take_news(kind, info)

    def _take_news(self, kind: NoticeKind, info: Info) -> None:
        interest = self._interests.get(info.topic) or self._covering(info.topic)
        if interest is None or interest.status is not Status.ACTIVE:
            return
        if kind == "topic_created" and info.epoch:
            interest.add_topic(info.topic, info.epoch, info.seq)
            self.feeds[info.topic] = interest.feeds[info.topic]
        if kind == "topic_deleted" and info.topic == interest.name:
            interest.note_absence()
        else:
            interest.tell(
                kind,
                info.topic,
                client_id=info.client_id or None,
                epoch=info.epoch or None,
                reason=info.reason or None,
            )
        if kind in ("topic_deleted", "unsubscribed"):
            self._leave_topic(interest, info)

    def _leave_topic(self, interest: Interest, info: Info) -> None:
        self.feeds.pop(info.topic, None)
        if info.topic != interest.name:
            interest.end_topic(info.topic)
        elif info.reason == "forbidden":
            self._end(interest, Forbidden(f"the token does not allow {info.topic} any more"))
        else:
            self._retry(interest)

    def _covering(self, topic: str) -> Interest | None:
        return next((each for name, each in self._interests.items() if each.is_pattern and covers(name, topic)), None)

    def _ask(self, interest: Interest) -> None:
        if self._is_open and interest.status is Status.IDLE:
            interest.status = Status.ASKED
            request = interest.request(self._client_id)
            self._asked[interest] = self._exchange.ask(request, partial(self._take_answer, interest))

    def _take_answer(self, interest: Interest, answer: Answer) -> None:
        self._asked.pop(interest, None)
        if interest.status is not Status.ASKED:
            return
        match answer:
            case Ack():
                interest.begin(answer)
                self.feeds.update(interest.feeds)
                self._pauses[interest].reset()
                self._tell(interest, None)
            case AnswerTimeout() if interest.begun:
                self._host.drop(f"a subscribe was not answered: {answer}")
            case TopicNotFound() if interest.begun:
                interest.note_absence()
                self._retry(interest)
            case Internal() | LimitExceeded() if interest.begun:
                self._retry(interest)
            case AnswerTimeout():
                self._leave(interest)  # it may still be acknowledged
                self._end(interest, answer)
            case PubsubError():
                self._end(interest, answer)
            case _:
                self._end(interest, ServerFault(f"expected an ack of a subscribe, got {type(answer).__name__}"))

    def _retry(self, interest: Interest) -> None:
        """Subscribe again after a pause: the topic may exist again, or the server be well again."""
        interest.disconnect()
        for topic in interest.feeds:
            self.feeds.pop(topic, None)
        self._later(interest, self._pauses[interest].next(), partial(self._ask, interest))

    def _end(self, interest: Interest, error: PubsubError | None) -> None:
        if self._interests.get(interest.name) is not interest:
            return
        del self._interests[interest.name], self._pauses[interest]
        self._make_room(interest)
        for topic in interest.feeds:
            self.feeds.pop(topic, None)
        if (timer := self._timers.pop(interest, None)) is not None:
            timer.cancel()
        interest.end(error)
        self._tell(interest, error)

    def _tell(self, interest: Interest, error: PubsubError | None) -> None:
        if (answered := self._answered.pop(interest, None)) is not None:
            answered(error)

    def _left(self, name: str, answer: Answer) -> None:
        self._leaving.pop(name, None)

    def _note_room(self, interest: Interest) -> None:
        if interest.inbox.full and interest.status is not Status.ENDED:
            self.full.add(interest)
            if self._is_open:
                self._stalls.watch()
        else:
            self._make_room(interest)

    def _make_room(self, interest: Interest) -> None:
        self.full.discard(interest)
        if not self.full:
            self._stalls.stop()
        self._host.read()

    def _ask_history(self, interest: Interest, feed: Feed, part: Missing) -> None:
        request = interest.history_request(feed, part)
        self._exchange.ask(request, partial(self._mend, interest, feed, part))

    def _mend(self, interest: Interest, feed: Feed, part: Missing, answer: Answer) -> None:
        if isinstance(answer, AnswerTimeout):
            self._host.drop(f"a history was not answered: {answer}")
        elif not mend(feed, part, answer, filtered=interest.is_filtered):
            self._later(part, self._pauses[interest].next(), partial(self._ask_again, interest, feed, part))

    def _ask_again(self, interest: Interest, feed: Feed, part: Missing) -> None:
        if feed.awaits(part):
            self._ask_history(interest, feed, part)

    def _later(self, owner: Interest | Missing, pause: float, action: Callable[[], None]) -> None:
        def act() -> None:
            del self._timers[owner]
            action()

        self._timers[owner] = self._host.call_later(pause, act)
