"""``GET /admin/topics`` and ``/admin/clients``: pages of rows in the order of a number that each of them has anyway.

Only the rows of the page are described: the search and the order touch nothing that takes time to make.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from aiohttp import web

from pubsub.core.topic import Topic
from pubsub.http import clients, topics
from pubsub.http.app_keys import BROKER, CONNECTIONS, SERVICES
from pubsub.http.query import read_query
from pubsub.http.rendering import render_bytes, render_rows
from pubsub.metrics.snapshot import slices
from pubsub.protocol.dashboard import ClientRanking, TopicRanking
from pubsub.protocol.replies import encode
from pubsub.websocket.peer import Peer

SORTED_AT_ONCE: Final = 2000  # rows: 1 ms
DESCRIBED_AT_ONCE: Final = 10  # topics

Each = TypeVar("Each")
Key = Callable[[Each], Any]

TOPIC_KEYS: Final[Mapping[str, Key[Topic]]] = {
    "name": lambda topic: topic.name,
    "messages": lambda topic: topic.seq,
    "subscribers": lambda topic: topic.subscribers,
}


@dataclass(frozen=True, slots=True)
class Page(Generic[Each]):
    """``found``: the number of all rows that match."""

    rows: list[Each]
    found: int


async def find_page(
    whole: Iterable[Each], matches: Callable[[Each], bool], key: Key[Each], wanted: TopicRanking | ClientRanking
) -> Page[Each]:
    """The rows of a page, searched and sorted in slices. An order that changes meanwhile is as good as either."""
    runs: list[list[Each]] = []
    descending = wanted.order == "desc"
    for some in slices(whole, SORTED_AT_ONCE):
        runs.append(sorted(filter(matches, some), key=key, reverse=descending))
        await asyncio.sleep(0)
    merged = heapq.merge(*runs, key=key, reverse=descending)
    first = (wanted.page - 1) * wanted.limit
    for _ in slices(islice(merged, first), SORTED_AT_ONCE):
        await asyncio.sleep(0)
    return Page(list(islice(merged, wanted.limit)), sum(map(len, runs)))


async def rank_topics(request: web.Request) -> web.Response:
    wanted = read_query(request, TopicRanking)
    search = wanted.search.lower()
    page = await find_page(
        request.app[BROKER].topics, lambda topic: search in topic.name.lower(), TOPIC_KEYS[wanted.sort], wanted
    )
    rows: list[bytes] = []
    for number, topic in enumerate(page.rows, 1):
        rows.append(encode(await topics.describe(topic)))
        if number % DESCRIBED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return render_bytes(b'{"topics":[%b],"found":%d}' % (b",".join(rows), page.found))


async def rank_clients(request: web.Request) -> web.Response:
    wanted = read_query(request, ClientRanking)
    search, now = wanted.search.lower(), request.app[SERVICES].now()
    connections = request.app[CONNECTIONS]
    page = await find_page(
        connections.page(0, len(connections)),
        lambda peer: search in peer.client_id.lower(),
        client_keys(now)[wanted.sort],
        wanted,
    )
    rows = await render_rows(page.rows, lambda peer: encode(clients.describe(peer, now)))
    return render_bytes(b'{"clients":[%b],"found":%d}' % (rows, page.found))


def client_keys(now: float) -> Mapping[str, Key[Peer]]:
    return {
        "client_id": lambda peer: peer.client_id,
        "connected_sec": lambda peer: peer.age,
        "queued": lambda peer: peer.subscriber.queued,
        "dropped": lambda peer: peer.subscriber.dropped,
        "stalled_sec": lambda peer: now - peer.last_progress if peer.subscriber.lagging else 0.0,
        "round_trip_ms": lambda peer: peer.round_trip or 0,
    }
