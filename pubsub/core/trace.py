"""The fate of one message on its way to one subscriber, as far as it is known. No I/O.

It is derived from what is kept anyway: memberships, queues, gaps, and the trail. It never guesses: what is not known
any more is ``unknown``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from pubsub.core.entries import Gap
from pubsub.core.losses import Loss
from pubsub.core.trail import Lost, Since, Stay, after_of, life_of, moment_of
from pubsub.filters.filters import Subject

if TYPE_CHECKING:
    from pubsub.core.event import StoredEvent
    from pubsub.core.lane import Lane, Subscriber
    from pubsub.core.topic import Topic
    from pubsub.core.trail import Trail
    from pubsub.filters.filters import Matcher


class Outcome(enum.Enum):
    """The outcomes of the contract."""

    SENT = "sent"
    QUEUED = "queued"
    FILTERED = "filtered"
    DROPPED = "dropped"
    EXPIRED = "expired"
    NOT_SUBSCRIBED = "not_subscribed"
    FORBIDDEN = "forbidden"
    DISCONNECTED = "disconnected"
    UNKNOWN = "unknown"


class Verdict(Struct, frozen=True):
    """``detail`` is for people. ``since``: the Unix time at which the membership began; None without one."""

    outcome: Outcome
    detail: str
    since: int | None = None


REASONS: Final[dict[Loss | None, tuple[Outcome, str]]] = {
    Loss.OVERFLOW: (Outcome.DROPPED, "the queue was full"),
    Loss.EXPIRED: (Outcome.EXPIRED, "the time to live ended in the queue"),
    Loss.SLOW_CONSUMER: (Outcome.DISCONNECTED, "they waited in the queue when the slow consumer was closed"),
    Loss.DISCONNECTED: (Outcome.DISCONNECTED, "they waited in the queue when the connection ended"),
    None: (Outcome.DROPPED, "they were no longer kept when the replay came to them"),
}


class Message(Struct, frozen=True):
    """The message. ``event`` is None if it is no longer kept."""

    topic: Topic
    seq: int
    event: StoredEvent | None

    def matches(self, matcher: Matcher | None) -> bool | None:
        """True if it passes the filter; None if that cannot be found out any more."""
        if matcher is None:
            return True
        return None if self.event is None else matcher.matches(Subject(self.event.text))


class Claim(Struct, frozen=True):
    """A membership that covers the message. ``matches`` is None if it is not known. ``waits``: the reason to wait."""

    since: Since
    matches: bool | None
    waits: str = ""


def trace_open(message: Message, subscriber: Subscriber, *, allowed: bool) -> Verdict:
    """The fate of a message at an open connection. ``allowed``: its client may subscribe to the topic."""
    topic, seq, trail = message.topic, message.seq, subscriber.trail
    topic.flush()  # the end of the tick comes a little earlier, and nothing waits in the topic
    lane = subscriber.lanes.get(topic.name)
    if lane is not None and lane.topic is not topic:
        lane = None  # it is that of an earlier topic with this name
    claims = _claims_of(message, trail)
    if lane is not None and after_of(lane.since_of(subscriber)) < seq:
        claims.append(_claim_of_member(message, lane, subscriber))
    if claims or (trail is not None and trail.forgot(topic, seq)):
        return _judge(message, claims, trail, subscriber.find(topic, seq))
    if lane is not None:
        return _began_later(lane.since_of(subscriber))
    verdict = _outside(message, trail)
    if verdict is None and not allowed:
        return Verdict(Outcome.FORBIDDEN, "the rights of the client do not allow the topic")
    return verdict or Verdict(Outcome.NOT_SUBSCRIBED, "the connection has no subscription to the topic")


def trace_ended(message: Message, trail: Trail | None, text: str) -> Verdict:
    """The fate of a message at a connection that has ended. ``text``: the reason of the end."""
    claims = _claims_of(message, trail)
    if claims or (trail is not None and trail.forgot(message.topic, message.seq)):
        verdict = _judge(message, claims, trail, None)
    else:
        verdict = _outside(message, trail) or Verdict(
            Outcome.NOT_SUBSCRIBED, "the connection had no subscription to the topic"
        )
    return Verdict(verdict.outcome, f"{verdict.detail}; the connection ended: {text}", verdict.since)


def _claims_of(message: Message, trail: Trail | None) -> list[Claim]:
    """The claims of memberships that have ended."""
    stays = [] if trail is None else [stay for stay in trail.stays_in(message.topic) if stay.covers(message.seq)]
    return [Claim(stay.since, _matched(message, stay)) for stay in stays]


def _matched(message: Message, stay: Stay) -> bool | None:
    if not stay.certain:
        return None
    if stay.filter is None:
        return True
    matcher = stay.filter()  # None if nobody uses it any more
    return None if matcher is None else message.matches(matcher)


def _claim_of_member(message: Message, lane: Lane, subscriber: Subscriber) -> Claim:
    catch_up, waits = lane.catch_up_of(subscriber), ""
    matches = message.matches(lane.matcher) if catch_up is None or catch_up.certain else None
    if catch_up is not None and catch_up.after < message.seq:
        waits = "the replay has not come to it"
    elif lane.passed < message.seq:
        waits = "it waits for the evaluation of the filter"
    return Claim(lane.since_of(subscriber), matches, waits)


def _judge(message: Message, claims: list[Claim], trail: Trail | None, found: StoredEvent | Gap | None) -> Verdict:
    """The fate of a message that memberships cover. ``found``: the event if it waits, or a gap that is not told yet."""
    if found is not None and not isinstance(found, Gap):
        return _verdict(Outcome.QUEUED, "it waits in the queue of the connection", claims[:1])
    if trail is not None and trail.forgot(message.topic, message.seq):
        return Verdict(Outcome.UNKNOWN, "too much has happened since then to remember it all")
    possible = [claim for claim in claims if claim.matches is not False]
    if not possible:
        return _verdict(Outcome.FILTERED, "the filter of the subscription, or of the rights, does not match", claims)
    if (lost := _loss_of(message, trail, found)) is not None:
        if len(claims) == 1 and claims[0].matches:
            return _verdict(*_told(lost), possible)
        return _verdict(Outcome.UNKNOWN, "several subscriptions had a part in it, and one lost it", possible)
    sure = [claim for claim in possible if claim.matches]
    if sent := [claim for claim in sure if not claim.waits]:
        return _verdict(Outcome.SENT, "it was handed to the socket", sent)
    if sure:
        return _verdict(Outcome.QUEUED, sure[0].waits, sure)
    return _verdict(Outcome.UNKNOWN, "the message or the filter of that time is no longer kept", possible)


def _loss_of(message: Message, trail: Trail | None, gap: Gap | None) -> Lost | None:
    lost = None if trail is None else trail.loss_of(message.topic, message.seq)
    if lost is not None or gap is None:
        return lost
    return Lost(life_of(gap.topic), gap.from_seq, gap.to_seq, gap.count, Loss.OVERFLOW)


def _told(lost: Lost) -> tuple[Outcome, str]:
    outcome, reason = REASONS[lost.reason]
    return outcome, f"{lost.count} messages from seq {lost.from_seq} to {lost.to_seq} were lost: {reason}"


def _verdict(outcome: Outcome, detail: str, claims: list[Claim]) -> Verdict:
    return Verdict(outcome, detail, moment_of(claims[0].since) if claims else None)


def _began_later(since: Since) -> Verdict:
    detail = f"the subscription began later: it gets what follows seq {after_of(since)}"
    return Verdict(Outcome.NOT_SUBSCRIBED, detail, moment_of(since))


def _outside(message: Message, trail: Trail | None) -> Verdict | None:
    """The fate of a message that no membership covers, if there were any in the topic."""
    stays = [] if trail is None else list(trail.stays_in(message.topic))
    earlier = [stay for stay in stays if stay.until < message.seq]
    if earlier and earlier[-1].left:
        return Verdict(Outcome.DISCONNECTED, "the connection had ended before", moment_of(earlier[-1].since))
    if earlier:
        detail = f"the subscription had ended after seq {earlier[-1].until}"
        return Verdict(Outcome.NOT_SUBSCRIBED, detail, moment_of(earlier[-1].since))
    return _began_later(stays[0].since) if stays else None
