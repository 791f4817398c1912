"""A topic that goes on in another epoch, and messages of a topic that are lost: its members stay and are told. No I/O.

The engine of several servers may lose messages that subscribers have got already. It then begins a new epoch, so that
no ``seq`` of an epoch ever names two messages. Members are told in turns, and before anything else happens to their
membership. The journal delivers no event of the topic before all of them know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, structs

from pubsub.core.catchup import CatchUp
from pubsub.core.trail import life_of, moment_of, since
from pubsub.protocol.replies import Info, encode

if TYPE_CHECKING:
    from pubsub.core.clock import Clock
    from pubsub.core.lane import Lane, Subscriber
    from pubsub.core.presence import Presence
    from pubsub.core.ring import Slots
    from pubsub.core.topic import Topic

log = logging.getLogger(__name__)

TOLD: Final = 100  # members that are told in one turn, 10 to 20 µs each


class Notices:
    """The infos that a topic goes on in another epoch, encoded once for each ``seq`` after which members go on."""

    def __init__(self, topic: Topic, ts: str) -> None:
        self.topic = topic
        self._ts = ts
        self._texts: dict[int, bytes] = {}

    def after(self, seq: int) -> bytes:
        text = self._texts.get(seq)
        if text is None:
            topic = self.topic
            info = Info(topic=topic.name, msg="topic_created", epoch=topic.epoch, seq=seq or UNSET, ts=self._ts)
            text = self._texts[seq] = encode(info)
        return text


class Known(Struct, frozen=True):
    """The life of a topic that a member knows of, and the last ``seq`` there that it has."""

    topic: Topic
    seq: int


@dataclass(slots=True)
class News:
    """The news where a topic goes on. ``untold``: the members that do not know. ``callbacks``: for the end of that."""

    topic: Topic
    notices: Notices
    untold: dict[Subscriber, Known]
    callbacks: list[Callable[[], None]] = field(default_factory=list)


class Renewal:
    """See the module. ``take_turn(work)`` calls ``work`` in a later tick."""

    def __init__(self, presence: Presence, clock: Clock, take_turn: Callable[[Callable[[], None]], None]) -> None:
        self._presence = presence
        self._clock = clock
        self._take_turn = take_turn
        self._news: dict[Topic, News] = {}  # those of which not all members know

    def move(self, old: Topic, new: Topic) -> None:
        """Move the members of a topic to its next life, and tell them of it. Catch-ups go on there."""
        old.flush()
        untold: dict[Subscriber, Known] = {}
        known = Known(old, old.seq)
        for lane in old.lanes:
            lane.settle()
            untold |= dict.fromkeys(lane.members, known)
        if (earlier := self._news.pop(old, None)) is not None:
            untold |= earlier.untold
        old.go_on_as(new)
        self._presence.renew(old, new)
        self._begin(new, untold)

    def skip(self, topic: Topic, until: int) -> Slots:
        """Lose all up to ``until``, and tell the members what of it they do not have. Returns what the ring had."""
        topic.flush()
        untold: dict[Subscriber, Known] = {}
        known = Known(topic, topic.seq)
        for lane in topic.lanes:
            lane.settle()
            untold |= dict.fromkeys(lane.joined, known)  # a catch-up tells what is missing by itself
        removed = topic.skip(until)
        if (running := self._news.get(topic)) is None:
            self._begin(topic, untold)
        else:
            running.untold = untold | running.untold
        return removed

    def call_when_told(self, topic: Topic, callback: Callable[[], None]) -> bool:
        """Call ``callback`` once all members know where the topic goes on, unless it is renewed again before.

        False if they know it already.
        """
        if topic not in self._news:
            return False
        self._news[topic].callbacks.append(callback)
        return True

    def tell(self, topic: Topic, subscriber: Subscriber) -> None:
        """Tell a member now: its membership is about to change."""
        if (news := self._news.get(topic)) is not None and (known := news.untold.pop(subscriber, None)) is not None:
            self._tell(news, subscriber, known)

    def _begin(self, topic: Topic, untold: dict[Subscriber, Known]) -> None:
        if untold:
            topic.telling = True
            self._news[topic] = news = News(topic, Notices(topic, self._clock.timestamp()), untold)
            self._tell_some(news)

    def _tell_some(self, news: News) -> None:
        topic = news.topic
        if self._news.get(topic) is not news:  # it was renewed again: the members are told of that
            return
        for _ in range(min(TOLD, len(news.untold))):
            subscriber, known = news.untold.popitem()
            try:
                self._tell(news, subscriber, known)
            except Exception:  # a fault of one member must not keep the topic from the others
                log.exception("Internal error at a subscriber of topic %(topic)s", {"topic": topic.name})
        if news.untold:
            self._take_turn(partial(self._tell_some, news))
        else:
            topic.telling = False
            del self._news[topic]
            for callback in news.callbacks:
                callback()

    def _tell(self, news: News, member: Subscriber, known: Known) -> None:
        topic = news.topic
        lane = member.lanes.get(topic.name)
        if lane is None or lane.topic is not topic:  # it has left
            return
        catch_up = lane.catch_up_of(member)
        if known.topic is topic:
            if catch_up is None:
                member.replay(topic, (), after=known.seq, until=topic.seq)
        elif catch_up is None:
            _move(member, lane, known, news.notices)
        else:
            assert isinstance(catch_up, CatchUp), "topics have no other arrivals"
            _note_stay(member, lane, known.topic, catch_up.after)
            catch_up.renew(topic)
            if catch_up.begun:  # otherwise the answer comes, with the new epoch
                member.notify(known.topic, news.notices.after(catch_up.known))


def _move(member: Subscriber, lane: Lane, known: Known, notices: Notices) -> None:
    """Move a member that has joined."""
    topic = notices.topic
    after = min(known.seq, topic.seq)
    moment = moment_of(lane.since_of(member))
    _note_stay(member, lane, known.topic, known.seq)
    member.notify(known.topic, notices.after(after))
    member.replay(topic, (), after=after, until=topic.seq)
    lane.join(member, since(after, moment))


def _note_stay(member: Subscriber, lane: Lane, life: Topic, until: int) -> None:
    trail = member.ensure_trail()
    if not trail.forgotten_all:
        trail.leave(structs.replace(lane.stay_of(member), topic=life_of(life), until=until))
