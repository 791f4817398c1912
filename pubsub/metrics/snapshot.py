"""The sums over all topics and all clients that lag, made in slices, so that a scrape keeps no client waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from pubsub.core.counts import MessageCount
from pubsub.core.topic import Topic
from pubsub.metrics.sources import Sources
from pubsub.websocket.peer import Peer

SUMMED_AT_ONCE: Final = 2000  # topics or clients: 1 ms

Each = TypeVar("Each")


@dataclass(slots=True)
class Queues:
    """The queues of the clients whose sockets accept no data.

    ``stalled``: the longest time in seconds for which one of them has taken nothing.
    """

    clients: int = 0
    messages: int = 0
    deepest: int = 0
    stalled: float = 0.0

    def add(self, peer: Peer, now: float) -> None:
        queued = peer.subscriber.queued
        self.clients += 1
        self.messages += queued
        self.deepest = max(self.deepest, queued)
        self.stalled = max(self.stalled, now - peer.last_progress)


@dataclass(slots=True)
class Snapshot:
    """``published``: since the start. ``durable``, ``in_memory``: topics. ``shown``: those with series of their own."""

    published: MessageCount = field(default_factory=MessageCount)
    durable: int = 0
    in_memory: int = 0
    shown: Sequence[Topic] = ()
    queues: Queues = field(default_factory=Queues)

    def add(self, topic: Topic) -> None:
        self.published.add(topic.seq, topic.bytes)
        if topic.options.durable:
            self.durable += 1
        else:
            self.in_memory += 1


async def take_snapshot(sources: Sources) -> Snapshot:
    """Topics that begin meanwhile are not in the sums, and those that end are: so no sum goes back."""
    snapshot, broker, services = Snapshot(), sources.broker, sources.services
    snapshot.published.add(broker.ended_topics.messages, broker.ended_topics.bytes)
    topics = broker.topics
    snapshot.shown = topics[: sources.topic_limit]
    for some in slices(topics):
        for topic in some:
            snapshot.add(topic)
        await asyncio.sleep(0)
    for peers in slices(list(services.timers.blocked)):
        now = services.now()
        for peer in peers:
            snapshot.queues.add(peer, now)
        await asyncio.sleep(0)
    return snapshot


def slices(whole: Iterable[Each], size: int = SUMMED_AT_ONCE) -> Iterator[list[Each]]:
    rest = iter(whole)
    while some := list(islice(rest, size)):
        yield some
