"""The interest of a user in a topic or a pattern, over all connections: the topics that it has led to, and their fate.

It must never send by itself, and never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial

from msgspec import UNSET, Raw, Struct, UnsetType

from pubsub.client.errors import PubsubError
from pubsub.client.events import Gap, Notice, NoticeKind, Position
from pubsub.client.feed import Feed, Missing
from pubsub.client.inbox import Inbox, InboxRules
from pubsub.client.positions import limit_positions, positions_of
from pubsub.client.replies import Ack
from pubsub.client.requests import MAX_POSITIONS, History, Subscribe, has_wildcard
from pubsub.protocol.replies import TopicPosition

__all__ = ["Interest", "Status", "Wish"]


class Wish(Struct, frozen=True, kw_only=True):
    """A subscription as a user asked for it. ``resume``: positions of an earlier one, or None.

    A pattern without a position had no topic then: all that have appeared since are replayed.
    """

    topic: str
    last_n: int = 0
    filter: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    resume: Mapping[str, Position] | None = None
    notices: bool = False


class Status(Enum):
    """The state of an interest in the present connection. IDLE: it has not been asked for there."""

    IDLE = 0
    ASKED = 1
    ACTIVE = 2
    ENDED = 3


class Interest:
    """See the module.

    ``feeds`` has the topics by name. ``begun``: the server has acknowledged it once. ``error``: the reason of the end;
    None if the user ended it.
    """

    def __init__(
        self,
        wish: Wish,
        rules: InboxRules,
        ask_history: Callable[[Interest, Feed, Missing], None],
        note_room: Callable[[Interest], None],
    ) -> None:
        self.wish = wish
        self.name = wish.topic
        self.is_pattern = has_wildcard(wish.topic)
        self.inbox = Inbox(rules, partial(ask_history, self), partial(note_room, self))
        self.feeds: dict[str, Feed] = {}
        self._gone: dict[str, Feed] = {}  # topics of a pattern that have ended: the latest of them
        self.status = Status.IDLE
        self.begun = False
        self._is_absent = False
        self.error: PubsubError | None = None
        for topic, position in (wish.resume or {}).items():
            self.feeds[topic] = Feed(self.inbox, topic, position.epoch, seq=position.seq, start=position.seq)

    @property
    def is_filtered(self) -> bool:
        return self.wish.filter is not UNSET

    @property
    def position(self) -> dict[str, Position]:
        """The positions that the user has reached."""
        return {topic: feed.position for topic, feed in (self._gone | self.feeds).items()}

    def request(self, client_id: str) -> Subscribe:
        """Return the request that begins the subscription, or continues it where the last connection ended."""
        wish = self.wish
        resumes = self.begun or bool(wish.resume) or (wish.resume is not None and self.is_pattern)
        return Subscribe(
            topic=wish.topic,
            client_id=client_id,
            last_n=0 if resumes else wish.last_n,
            resume=limit_positions((topic, feed.received) for topic, feed in self.feeds.items()) if resumes else UNSET,
            filter=wish.filter,
            params=wish.params,
        )

    def history_request(self, feed: Feed, part: Missing) -> History:
        """Return the request for the next page of a missing part."""
        return History(
            topic=feed.topic, after=part.after, limit=part.asked, filter=self.wish.filter, params=self.wish.params
        )

    def begin(self, ack: Ack) -> None:
        """Note that the connection has the subscription. What was missed comes now."""
        begun = positions_of(self.name, ack)
        for topic in [topic for topic in self.feeds if topic not in begun]:
            self.tell("topic_deleted", topic)
            self.end_topic(topic)
        for topic, now in begun.items():
            self._begin_topic(topic, now)
        self.status = Status.ACTIVE
        self._is_absent = False
        self.inbox.active = self.begun = True
        for feed in self.feeds.values():
            feed.advance()

    def disconnect(self) -> None:
        """Note that the connection has ended, or only this subscription in it."""
        self.status = Status.IDLE
        self.inbox.active = False
        for feed in self.feeds.values():
            feed.disconnect()

    def end(self, error: PubsubError | None) -> None:
        """End. The user gets what is in the queue, then the error. What waits behind a missing part is not handed on.

        So the position stays before that part, and a later subscription can resume there.
        """
        self.status = Status.ENDED
        for feed in self.feeds.values():
            feed.clear()
        self.inbox.active = False
        self.error = error
        self.inbox.notify()

    def add_topic(self, topic: str, epoch: str, base: int) -> None:
        """Take in a topic that the pattern covers and that has just been created, or is allowed again.

        ``base``: it goes on after this ``seq``, in another epoch than before; 0 if it begins.
        """
        feed = self.feeds.get(topic) or self._gone.get(topic)
        seq = 0 if feed is None or feed.epoch != epoch else feed.seq
        self._begin_topic(topic, TopicPosition(epoch, seq, recovered=True), base)

    def end_topic(self, topic: str) -> None:
        """Note that a topic of the pattern has ended, or is not allowed any more.

        Of the latest ones the positions are kept, to tell if they are created again. They are not part of a request: it
        would grow with each topic that comes and goes.
        """
        feed = self.feeds.pop(topic, None)
        if feed is not None:
            feed.end()
            self._gone[topic] = feed
            if len(self._gone) > MAX_POSITIONS:
                del self._gone[next(iter(self._gone))]

    def note_absence(self) -> None:
        """Note that the topic does not exist, and tell it once."""
        if not self._is_absent:
            self._is_absent = True
            self.tell("topic_deleted", self.name)

    def tell(
        self,
        kind: NoticeKind,
        topic: str,
        *,
        client_id: str | None = None,
        epoch: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Tell the user some news of a topic, behind its events, if it wants to know."""
        if self.wish.notices and not (kind in ("joined", "left") and self.inbox.overfull):
            feed = self.feeds.get(topic) or self._gone.get(topic) or Feed(self.inbox, topic, "")
            feed.tell(Notice(kind, topic, client_id, epoch, reason))

    def forget_waiting(self) -> None:
        """Forget all that has come and was not taken: the user's state has it."""
        for feed in (*self.feeds.values(), *self._gone.values()):
            feed.clear()
            feed.handed = feed.seq or feed.start
            feed.previous = None
        self.inbox.clear()

    def _begin_topic(self, topic: str, now: TopicPosition, base: int = 0) -> None:
        feed = self.feeds.get(topic) or self._gone.pop(topic, None)
        if feed is None:
            self.feeds[topic] = self._new_feed(topic, now)
            return
        self.feeds[topic] = feed
        if not feed.epoch:
            feed.epoch = now.epoch
        elif feed.epoch != now.epoch or now.seq < feed.seq:
            feed.end()
            again = self.feeds[topic] = Feed(self.inbox, topic, now.epoch, seq=base, start=base, previous=feed)
            again.tell(Gap(topic, now.epoch, None, base or None, None, "created_again"))
        elif now.recovered is False:
            feed.lost_until = now.seq

    def _new_feed(self, topic: str, now: TopicPosition) -> Feed:
        """Begin a topic. One with a replay, or that appeared while there was no connection, begins before the ack."""
        if now.recovered is not UNSET:
            return Feed(self.inbox, topic, now.epoch)
        if self.wish.last_n:
            return Feed(self.inbox, topic, now.epoch, start=max(0, now.seq - self.wish.last_n))
        return Feed(self.inbox, topic, now.epoch, seq=now.seq, start=now.seq)
