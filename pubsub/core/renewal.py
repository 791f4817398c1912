"""A topic that goes on in another epoch, and messages of a topic that are lost: its members stay and are told. No I/O.

The engine of several servers may lose messages that subscribers have got already. It then begins a new epoch, so that
no ``seq`` of an epoch ever names two messages.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from msgspec import UNSET

from pubsub.core.catchup import CatchUp
from pubsub.core.placement import topic_of
from pubsub.core.trail import moment_of, since
from pubsub.protocol.replies import Info, encode

if TYPE_CHECKING:
    from pubsub.core.clock import Clock
    from pubsub.core.lane import Lane, Subscriber
    from pubsub.core.placement import Placement
    from pubsub.core.presence import Presence
    from pubsub.core.topic import Topic

log = logging.getLogger(__name__)


class Notices:
    """The infos that a topic goes on in another epoch, encoded once for each ``seq`` after which members go on."""

    def __init__(self, topic: Topic, ts: str) -> None:
        self._topic = topic
        self._ts = ts
        self._texts: dict[int, bytes] = {}

    def after(self, seq: int) -> bytes:
        text = self._texts.get(seq)
        if text is None:
            info = Info(
                topic=self._topic.name, msg="topic_created", epoch=self._topic.epoch, seq=seq or UNSET, ts=self._ts
            )
            text = self._texts[seq] = encode(info)
        return text


class Renewal:
    """See the module. Each call is one step, however many members there are: 5 to 10 µs each."""

    def __init__(self, placement: Placement, presence: Presence, clock: Clock) -> None:
        self._placement = placement
        self._presence = presence
        self._clock = clock

    def move(self, old: Topic, new: Topic) -> None:
        """Move the members of a topic to its next life, and tell them of it. Catch-ups go on there."""
        old.flush()
        notices = Notices(new, self._clock.timestamp())
        for lane in old.lanes:
            lane.settle()
            target = self._placement.find_lane(new, lane.encoding, lane.matcher)
            for member in lane.members:
                try:
                    _move(member, lane, target, notices)
                except Exception:  # a fault of one member must not keep the topic from the others
                    log.exception("Internal error at a subscriber of topic %(topic)s", {"topic": new.name})
        old.successor = new
        old.lanes = ()
        self._presence.renew(old, new)

    def tell_lost(self, topic: Topic, until: int) -> None:
        """Tell the members that all up to ``until`` is lost which they do not have yet."""
        topic.flush()
        for lane in topic.lanes:
            lane.settle()
            for member in lane.members:
                try:
                    catch_up = lane.catch_up_of(member)
                    if catch_up is None:
                        member.replay(topic, (), after=topic.seq, until=until)
                    else:
                        catch_up.expect_all()
                except Exception:
                    log.exception("Internal error at a subscriber of topic %(topic)s", {"topic": topic.name})


def _move(member: Subscriber, lane: Lane, target: Lane, notices: Notices) -> None:
    old, new = topic_of(lane), topic_of(target)
    catch_up = lane.catch_up_of(member)
    beginning = lane.since_of(member)
    trail = member.ensure_trail()
    if not trail.forgotten_all:
        trail.leave(lane.stay_of(member))
    lane.leave(member)
    member.lanes[new.name] = target
    if catch_up is None:
        member.notify(old, notices.after(new.seq))
        target.join(member, since(new.seq, moment_of(beginning)))
    else:
        assert isinstance(catch_up, CatchUp), "topics have no other arrivals"
        catch_up.renew(new, target)
        if catch_up.begun:  # otherwise the answer comes, with the new epoch
            member.notify(old, notices.after(catch_up.known))
        target.arrive(member, catch_up)
