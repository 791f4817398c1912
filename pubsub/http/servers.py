"""This server among several: the answers that it gives to the others, and its start and end among them.

A server alone never imports this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from aiohttp import web

from pubsub.cluster.bus import Bus
from pubsub.cluster.cluster import Cluster
from pubsub.http import client_pages, clients, cursors, ranking, servers_overview, slow, subscribers, trace
from pubsub.http.app_keys import BROKER, CLUSTER, SERVICES, STREAMS
from pubsub.websocket.services import Services

ANSWERERS: Final[Mapping[str, Callable[[web.Application, bytes], Awaitable[bytes]]]] = {
    **client_pages.ANSWERERS,
    clients.DISCONNECT: clients.answer_disconnect,
    cursors.KIND: cursors.answer_cursor,
    servers_overview.ROW: servers_overview.answer_row,
    servers_overview.WHOLE: servers_overview.answer_overview,
    ranking.KIND: ranking.answer_clients,
    slow.KIND: slow.answer_slow,
    subscribers.KIND: subscribers.answer,
    trace.KIND: trace.answer_trace,
}


def join_servers(app: web.Application, bus: Bus) -> None:
    """Have the Application speak for all servers of the bus. Needs a running event loop.

    It joins them at the start of the Application, and leaves at its end. The bus must work by then, and until then.
    """
    loop = asyncio.get_running_loop()
    cluster = app[CLUSTER] = Cluster(bus, app[BROKER], app[SERVICES].quotas, now=loop.time, call_later=loop.call_later)
    share_quotas(app[SERVICES])
    for kind, answerer in ANSWERERS.items():
        cluster.answer_with(kind, partial(answerer, app))
    streams = app[STREAMS]
    cluster.hear(cursors.HANDED_OVER, lambda data: cursors.adopt_cursors(streams.cursors, data))
    app.cleanup_ctx.append(joined)


def share_quotas(services: Services) -> None:
    """Close connections that are too many by what other servers tell."""
    closing: set[asyncio.Task[None]] = set()

    def close(client_id: str, count: int) -> None:
        task = asyncio.get_running_loop().create_task(services.connections.close_newest(client_id, count))
        closing.add(task)
        task.add_done_callback(closing.discard)

    services.quotas.close = close


async def joined(app: web.Application) -> AsyncIterator[None]:
    await app[CLUSTER].start()
    yield
    await cursors.hand_over(app)
    app[CLUSTER].stop()
