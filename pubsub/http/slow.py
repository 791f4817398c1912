"""``GET /slow``: the subscribers that lag most, and the topics in which they do."""

from __future__ import annotations

import asyncio
import calendar
import heapq
import time
from collections.abc import Iterable
from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET, structs

from pubsub.core.event import StoredEvent
from pubsub.core.lags import Lag, add_lags, count_lag
from pubsub.http.app_keys import SERVICES
from pubsub.http.query import read_query
from pubsub.http.rendering import render
from pubsub.http.scope import ask_others, cluster_for, missing_of, server_of
from pubsub.metrics.snapshot import slices
from pubsub.protocol.answers import SlowList, SlowRow
from pubsub.protocol.calls import SlowQuery
from pubsub.protocol.patterns import check_topic
from pubsub.protocol.replies import Event, encode
from pubsub.websocket.peer import Peer

SHOWN: Final = 100
ENTRIES_AT_ONCE: Final = 1000  # of a queue, 1 µs each, or 3 with a few events

KIND: Final = "slow"

_decode_event = msgspec.json.Decoder(Event).decode
_decode_rows = msgspec.json.Decoder(list[SlowRow]).decode
_encode = msgspec.msgpack.Encoder().encode
_decode_topic = msgspec.msgpack.Decoder(str).decode


async def list_slow(request: web.Request) -> web.Response:
    """The rows of all topics, or of one: those with the most events that wait, these first."""
    wanted = read_query(request, SlowQuery)
    topic = "" if wanted.topic is UNSET else wanted.topic
    if wanted.topic is not UNSET:
        check_topic(topic)
    others = await ask_others(cluster_for(request, wanted.scope), KIND, _encode(topic))
    rows = await find_worst(request.app, topic)
    for answer in others.found.values():
        rows += _decode_rows(answer)
    return render(SlowList(most_queued(rows), missing=missing_of(others.missing)))


async def answer_slow(app: web.Application, body: bytes) -> bytes:
    """The rows of this server, for another one."""
    return encode(await find_worst(app, _decode_topic(body)))


async def find_worst(app: web.Application, topic: str) -> list[SlowRow]:
    """The rows of this server: of one topic, or with an empty name of all."""
    blocked = list(app[SERVICES].timers.blocked)
    rows = await (worst_of_topic(blocked, topic) if topic else worst_of_all(blocked))
    server = server_of(app)
    return rows if server is UNSET else [structs.replace(row, server=server) for row in rows]


async def worst_of_all(blocked: Iterable[Peer]) -> list[SlowRow]:
    """Sorted by a number that each queue has anyway; only the longest queues are looked into."""
    worst: list[Peer] = []
    for some in slices(blocked):
        worst = heapq.nlargest(SHOWN, [*worst, *some], key=length)
        await asyncio.sleep(0)
    rows = [describe(peer.client_id, topic, lag) for peer in worst for topic, lag in (await lags_of(peer)).items()]
    return most_queued(rows)


async def worst_of_topic(blocked: Iterable[Peer], topic: str) -> list[SlowRow]:
    """Look into the queues, the longest first, until no other one can have as many events of the topic."""
    worst: list[tuple[int, int, Peer]] = []  # a heap, whose first one has the fewest events; numbers differ
    looked_at = 0
    for peer in await longest_first(blocked):
        if len(worst) == SHOWN and length(peer) <= worst[0][0]:
            break
        count = 0
        for some in slices(peer.subscriber.entries, ENTRIES_AT_ONCE):
            count += count_lag(some, topic)
            looked_at += len(some)
            if looked_at >= ENTRIES_AT_ONCE:
                looked_at = 0
                await asyncio.sleep(0)
        if count:
            add = heapq.heappush if len(worst) < SHOWN else heapq.heappushpop
            add(worst, (count, -peer.number, peer))
    lags = [(peer, (await lags_of(peer)).get(topic)) for _, _, peer in worst]
    return most_queued([describe(peer.client_id, topic, lag) for peer, lag in lags if lag is not None])


async def longest_first(blocked: Iterable[Peer]) -> Iterable[Peer]:
    """The clients in the order of their queues, sorted in slices."""
    runs: list[list[Peer]] = []
    for some in slices(blocked):
        runs.append(sorted(some, key=length, reverse=True))
        await asyncio.sleep(0)
    return heapq.merge(*runs, key=length, reverse=True)


def length(peer: Peer) -> int:
    return peer.subscriber.queued


def most_queued(rows: Iterable[SlowRow]) -> list[SlowRow]:
    return heapq.nlargest(SHOWN, rows, key=lambda row: row.queued)


async def lags_of(peer: Peer) -> dict[str, Lag]:
    """The lags of one client by topic, added up in slices."""
    lags: dict[str, Lag] = {}
    for some in slices(peer.subscriber.entries, ENTRIES_AT_ONCE):
        add_lags(lags, some)
        await asyncio.sleep(0)
    return lags


def describe(client_id: str, topic: str, lag: Lag) -> SlowRow:
    return SlowRow(client_id=client_id, topic=topic, queued=lag.queued, lag_sec=age_of(lag.oldest), lag_bytes=lag.size)


def age_of(event: StoredEvent) -> int:
    """Seconds since it was published, by the clock of the system."""
    published = calendar.timegm(time.strptime(_decode_event(event.text).ts, "%Y-%m-%dT%H:%M:%SZ"))
    return max(0, int(time.time()) - published)
