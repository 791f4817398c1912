"""Answers to requests about subscriptions, history and presence, made of what the Broker found. No I/O."""

from __future__ import annotations

from msgspec import Raw

from pubsub.core.history import KeptEvents
from pubsub.core.joining import Joining
from pubsub.core.presence import Present
from pubsub.protocol.replies import HistoryReply, PatternAck, PresenceReply, SubscribeAck, TopicPosition
from pubsub.protocol.requests import History, Presence, Subscribe


def acknowledge_subscribe(request: Subscribe, joining: Joining, ts: str) -> SubscribeAck | PatternAck:
    """The ack of a subscribe: the position of its topic, or of each topic that its pattern covers."""
    if joining.asked.subscription.is_pattern:
        return PatternAck(
            request_id=request.request_id,
            topic=request.topic,
            status="ok",
            topics=positions_of(joining),
            recovered=joining.recovered,
            ts=ts,
        )
    (joined,) = joining.topics
    return SubscribeAck(
        request_id=request.request_id,
        topic=request.topic,
        status="ok",
        epoch=joined.topic.epoch,
        seq=joined.seq,
        recovered=joined.recovered,
        ts=ts,
    )


def positions_of(joining: Joining) -> dict[str, TopicPosition]:
    """The position of each topic that a pattern covers."""
    return {each.topic.name: TopicPosition(each.topic.epoch, each.seq, each.recovered) for each in joining.topics}


def answer_history(request: History, kept: KeptEvents, ts: str) -> HistoryReply:
    return HistoryReply(
        request_id=request.request_id,
        topic=request.topic,
        epoch=kept.epoch,
        messages=[Raw(event.text) for event in kept.events],
        complete=kept.complete,
        ts=ts,
    )


def answer_presence(request: Presence, present: Present, ts: str) -> PresenceReply:
    return PresenceReply(
        request_id=request.request_id, topic=request.topic, count=present.count, clients=present.clients, ts=ts
    )
