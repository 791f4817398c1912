"""The subscribers of topics at all servers, for the answers that count them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from pubsub.core.broker import Broker
from pubsub.core.topic import Topic
from pubsub.http.app_keys import BROKER
from pubsub.http.rendering import ROWS_AT_ONCE
from pubsub.http.scope import ask_others

if TYPE_CHECKING:
    from pubsub.cluster.cluster import Cluster

KIND: Final = "subscribers"
MOST_NAMES: Final = 200
LOWEST: Final = "\0"  # what a name must end with to be the next one after it
HIGHEST: Final = "\x7f"  # no name is above it


class TopicsAsked(Struct, frozen=True, array_like=True, gc=False):
    """Topics by name, or without names those from ``first`` to ``last`` in their order."""

    names: list[str] = []
    first: str = ""
    last: str = HIGHEST


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The number of subscribers at other servers by topic, and the servers that did not answer."""

    counts: Counter[str]
    missing: Sequence[str]

    def of(self, topic: Topic) -> int:
        """The number at all servers."""
        return topic.subscribers + self.counts[topic.name]


ALONE: Final = Elsewhere(Counter(), ())

_encode = msgspec.msgpack.Encoder().encode
_decode_asked = msgspec.msgpack.Decoder(TopicsAsked).decode
_decode_parts = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_counts = msgspec.msgpack.Decoder(dict[str, int]).decode


async def count_elsewhere(cluster: Cluster | None, topics: Sequence[Topic] | None = None) -> Elsewhere:
    """Ask the other servers about some topics, or about all, if the answer has to speak for them."""
    if cluster is None or topics == []:
        return ALONE
    asked = TopicsAsked() if topics is None else named(topics)
    answers = await ask_others(cluster, KIND, _encode(asked))
    counts: Counter[str] = Counter()
    for answer in answers.found.values():
        for part in _decode_parts(answer):
            counts.update(_decode_counts(part))
            await asyncio.sleep(0)
    return Elsewhere(counts, answers.missing)


def named(topics: Sequence[Topic]) -> TopicsAsked:
    """Topics by their names; if they are many, all that are between them."""
    names = [topic.name for topic in topics]
    return TopicsAsked(names) if len(names) <= MOST_NAMES else TopicsAsked(first=min(names), last=max(names))


async def answer(app: web.Application, body: bytes) -> bytes:
    """The subscribers here of topics that have some, in parts."""
    parts: list[Raw] = []
    for topics in slices(app[BROKER], _decode_asked(body)):
        counts = {topic.name: count for topic in topics if (count := topic.subscribers)}
        parts.append(Raw(_encode(counts)))
        await asyncio.sleep(0)
    return _encode(parts)


def slices(broker: Broker, asked: TopicsAsked) -> Iterator[list[Topic]]:
    if asked.names:
        yield [broker.find_topic(name) for name in asked.names if broker.exists(name)]
        return
    first = asked.first
    while found := broker.topics_from(first, ROWS_AT_ONCE):
        yield [topic for topic in found if topic.name <= asked.last]
        if found[-1].name > asked.last:
            return
        first = found[-1].name + LOWEST
