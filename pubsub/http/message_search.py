"""Searches for one message: by its ``seq``, or by its id among the messages that topics keep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from pubsub.core.broker import Broker
from pubsub.core.event import StoredEvent
from pubsub.core.history import KeptEvents
from pubsub.core.topic import Topic
from pubsub.core.trace import Message
from pubsub.http.waiting import answered
from pubsub.protocol.errors import MessageNotFound

COMPARED_AT_ONCE: Final = 2000  # ids: 0.3 ms
SEARCHED: Final = 100_000  # of the newest messages of a durable topic
PAGE: Final = 1000
ID_LENGTH: Final = 36


async def find_by_seq(broker: Broker, topic: str, seq: int) -> Message:
    """A message that the topic has had; its event is None if it is not kept. Raises TopicNotFound, MessageNotFound."""
    found = broker.find_topic(topic)
    if not 1 <= seq <= found.seq:
        raise MessageNotFound
    kept: KeptEvents = await answered(partial(broker.history_after, topic, seq - 1, 1))
    events = [event for event in kept.events if event.seq == seq]
    return Message(broker.find_topic(topic), seq, events[0] if events else None)


async def find_by_id(broker: Broker, wanted: str, topic: str | None) -> Message:
    """The newest message with an id. Without a topic, the rings of all topics are searched.

    Raises TopicNotFound, MessageNotFound.
    """
    name = wanted.lower()
    topics = broker.topics if topic is None else [broker.find_topic(topic)]
    compared = 0
    for each in topics:
        for events in ring_pages(each):
            if (event := find_in(events, each, name)) is not None:
                return Message(each, event.seq, event)
            compared += len(events)
            if compared >= COMPARED_AT_ONCE:
                compared = 0
                await asyncio.sleep(0)
    if topic is not None and (event := await find_on_disk(broker, topics[0], name)) is not None:
        return Message(topics[0], event.seq, event)
    raise MessageNotFound


def ring_pages(topic: Topic) -> Iterator[Sequence[StoredEvent]]:
    """The events of a ring, the newest page first."""
    end = topic.seq
    while end >= (oldest := topic.ring.oldest):
        after = max(oldest - 1, end - COMPARED_AT_ONCE)
        yield topic.ring.after(after, end - after)
        end = after


async def find_on_disk(broker: Broker, topic: Topic, name: str) -> StoredEvent | None:
    """Search the newest messages that are only on disk."""
    until = topic.ring.oldest - 1
    after, found = max(topic.oldest - 1, topic.seq - SEARCHED), None
    while after < until and broker.find_topic(topic.name) is topic:
        page: Sequence[StoredEvent] = await answered(partial(topic.log.read, after, until, PAGE))
        if not page:
            break
        found = find_in(page, topic, name) or found
        after = page[-1].seq
    return found


def find_in(events: Sequence[StoredEvent], topic: Topic, name: str) -> StoredEvent | None:
    """The newest of some events with this id, in lower case. Each has it at the same place of its text."""
    start = len(f'{{"type":"event","topic":"{topic.name}","message":{{"id":"')
    end = start + ID_LENGTH
    wanted = name.encode()
    for event in reversed(events):
        if event.text[start:end].lower() == wanted:
            return event
    return None
