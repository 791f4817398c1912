"""``GET /admin/topics`` and ``/admin/clients``: pages of rows in the order of a number that each of them has anyway.

Only the rows of the page are described: the search and the order touch nothing that takes time to make.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
from aiohttp import web

from pubsub.core.topic import Topic
from pubsub.http import topics
from pubsub.http.app_keys import BROKER, CONNECTIONS, SERVICES
from pubsub.http.client_rows import describe
from pubsub.http.query import read_query
from pubsub.http.rendering import render, render_bytes, render_rows
from pubsub.http.scope import ask_others, cluster_for, missing_field, missing_of, server_of
from pubsub.http.subscribers import ALONE, count_elsewhere
from pubsub.metrics.snapshot import slices
from pubsub.protocol.answers import ClientRow
from pubsub.protocol.dashboard import ClientRanking, RankedClients, TopicRanking
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.replies import encode
from pubsub.websocket.peer import Peer

if TYPE_CHECKING:
    from pubsub.cluster.cluster import Cluster

SORTED_AT_ONCE: Final = 2000  # rows: 1 ms
DESCRIBED_AT_ONCE: Final = 10  # topics
MOST_MERGED: Final = 1000  # rows that each of several servers gives for a page
KIND: Final = "clients.ranked"

Each = TypeVar("Each")
Key = Callable[[Each], Any]

TOPIC_KEYS: Final[Mapping[str, Key[Topic]]] = {
    "name": lambda topic: topic.name,
    "messages": lambda topic: topic.seq,
    "subscribers": lambda topic: topic.subscribers,
}

ROW_KEYS: Final[Mapping[str, Key[ClientRow]]] = {
    "client_id": lambda row: row.client_id,
    "connected_sec": lambda row: row.connected_sec,
    "queued": lambda row: row.queued,
    "dropped": lambda row: row.dropped,
    "stalled_sec": lambda row: row.stalled_sec,
    "round_trip_ms": lambda row: row.round_trip_ms or 0,
}

_decode_wanted = msgspec.json.Decoder(ClientRanking).decode
_decode_ranked = msgspec.json.Decoder(RankedClients).decode


@dataclass(frozen=True, slots=True)
class Page(Generic[Each]):
    """``found``: the number of all rows that match."""

    rows: list[Each]
    found: int


async def find_page(
    whole: Iterable[Each], matches: Callable[[Each], bool], key: Key[Each], *, descending: bool, rows: range
) -> Page[Each]:
    """Some rows, searched and sorted in slices. An order that changes meanwhile is as good as either."""
    runs: list[list[Each]] = []
    for some in slices(whole, SORTED_AT_ONCE):
        runs.append(sorted(filter(matches, some), key=key, reverse=descending))
        await asyncio.sleep(0)
    merged = heapq.merge(*runs, key=key, reverse=descending)
    for _ in slices(islice(merged, rows.start), SORTED_AT_ONCE):
        await asyncio.sleep(0)
    return Page(list(islice(merged, len(rows))), sum(map(len, runs)))


def rows_of(wanted: TopicRanking | ClientRanking) -> range:
    """The rows of the page that is wanted."""
    end = wanted.page * wanted.limit
    return range(end - wanted.limit, end)


async def rank_topics(request: web.Request) -> web.Response:
    wanted, broker = read_query(request, TopicRanking), request.app[BROKER]
    search, cluster = wanted.search.lower(), cluster_for(request, wanted.scope)
    elsewhere = await count_elsewhere(cluster) if wanted.sort == "subscribers" else ALONE
    key = elsewhere.of if wanted.sort == "subscribers" else TOPIC_KEYS[wanted.sort]
    page = await find_page(
        broker.topics,
        lambda topic: search in topic.name.lower(),
        key,
        descending=wanted.order == "desc",
        rows=rows_of(wanted),
    )
    if elsewhere is ALONE:
        elsewhere = await count_elsewhere(cluster, page.rows)
    rows: list[bytes] = []
    for number, topic in enumerate(page.rows, 1):
        rows.append(encode(await topics.describe(topic, elsewhere)))
        if number % DESCRIBED_AT_ONCE == 0:
            await asyncio.sleep(0)
    form = b'{"topics":[%b],"found":%d%b}'
    return render_bytes(form % (b",".join(rows), page.found, missing_field(elsewhere.missing)))


async def rank_clients(request: web.Request) -> web.Response:
    wanted = read_query(request, ClientRanking)
    cluster = cluster_for(request, wanted.scope)
    if cluster is not None:
        return render(await merge_clients(request.app, cluster, wanted))
    page = await find_clients(request.app, wanted, rows_of(wanted))
    now, server = request.app[SERVICES].now(), server_of(request.app)
    rows = await render_rows(page.rows, lambda peer: encode(describe(peer, now, server)))
    return render_bytes(b'{"clients":[%b],"found":%d}' % (rows, page.found))


async def find_clients(app: web.Application, wanted: ClientRanking, rows: range) -> Page[Peer]:
    search, connections = wanted.search.lower(), app[CONNECTIONS]
    return await find_page(
        connections.page(0, len(connections)),
        lambda peer: search in peer.client_id.lower(),
        client_keys(app[SERVICES].now())[wanted.sort],
        descending=wanted.order == "desc",
        rows=rows,
    )


async def merge_clients(app: web.Application, cluster: Cluster, wanted: ClientRanking) -> RankedClients:
    """A page of the connections of all servers: each gives all rows up to its end. Raises BadRequest for a late one."""
    rows = rows_of(wanted)
    if rows.stop > MOST_MERGED:
        raise BadRequest(f"page: expected one of the first {MOST_MERGED} rows of several servers, got {wanted.page}")
    body = encode(wanted)
    others = await ask_others(cluster, KIND, body)
    found = [_decode_ranked(await answer_clients(app, body)), *map(_decode_ranked, others.found.values())]
    merged = heapq.merge(*(each.clients for each in found), key=ROW_KEYS[wanted.sort], reverse=wanted.order == "desc")
    shown = list(islice(merged, rows.start, rows.stop))
    return RankedClients(shown, sum(each.found for each in found), missing_of(others.missing))


async def answer_clients(app: web.Application, body: bytes) -> bytes:
    """The rows of this server up to the end of the page, which is one of all servers."""
    wanted = _decode_wanted(body)
    page = await find_clients(app, wanted, range(wanted.page * wanted.limit))
    now, server = app[SERVICES].now(), server_of(app)
    return encode(RankedClients([describe(peer, now, server) for peer in page.rows], page.found))


def client_keys(now: float) -> Mapping[str, Key[Peer]]:
    return {
        "client_id": lambda peer: peer.client_id,
        "connected_sec": lambda peer: peer.age,
        "queued": lambda peer: peer.subscriber.queued,
        "dropped": lambda peer: peer.subscriber.dropped,
        "stalled_sec": lambda peer: now - peer.last_progress if peer.subscriber.lagging else 0.0,
        "round_trip_ms": lambda peer: peer.round_trip or 0,
    }
