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

from pubsub.core.event import StoredEvent
from pubsub.core.lags import Lag, add_lags
from pubsub.http.app_keys import SERVICES
from pubsub.http.rendering import render
from pubsub.metrics.snapshot import slices
from pubsub.protocol.answers import SlowList, SlowRow
from pubsub.protocol.replies import Event
from pubsub.websocket.peer import Peer

SHOWN: Final = 100
ENTRIES_AT_ONCE: Final = 1000  # of a queue, 1 µs each, or 3 with a few events

_decode_event = msgspec.json.Decoder(Event).decode


async def list_slow(request: web.Request) -> web.Response:
    """Sorted by a number that each queue has anyway; only the worst queues are looked into."""
    worst: list[Peer] = []
    for some in slices(list(request.app[SERVICES].timers.blocked)):
        worst = heapq.nlargest(SHOWN, [*worst, *some], key=lambda peer: peer.subscriber.queued)
        await asyncio.sleep(0)
    lags = [(lag.queued, peer.client_id, topic, lag) for peer in worst for topic, lag in await lags_of(peer)]
    rows = heapq.nlargest(SHOWN, lags, key=lambda row: row[0])
    return render(SlowList([describe(client_id, topic, lag) for _, client_id, topic, lag in rows]))


async def lags_of(peer: Peer) -> Iterable[tuple[str, Lag]]:
    """The lags of one client by topic, added up in slices."""
    lags: dict[str, Lag] = {}
    for some in slices(peer.subscriber.entries, ENTRIES_AT_ONCE):
        add_lags(lags, some)
        await asyncio.sleep(0)
    return lags.items()


def describe(client_id: str, topic: str, lag: Lag) -> SlowRow:
    return SlowRow(client_id=client_id, topic=topic, queued=lag.queued, lag_sec=age_of(lag.oldest), lag_bytes=lag.size)


def age_of(event: StoredEvent) -> int:
    """Seconds since it was published, by the clock of the system."""
    published = calendar.timegm(time.strptime(_decode_event(event.text).ts, "%Y-%m-%dT%H:%M:%SZ"))
    return max(0, int(time.time()) - published)
