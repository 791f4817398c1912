"""``GET /topics/{name}/presence``: the clients that are in a topic."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pubsub.core.presence import MAX_SHOWN, Present
from pubsub.core.topic_clients import TopicClients as ClientsOfTopic
from pubsub.http.app_keys import BROKER, CLUSTER
from pubsub.http.identities import IDENTITY
from pubsub.http.rendering import ROWS_AT_ONCE, render
from pubsub.http.scope import read_cluster
from pubsub.http.subscribers import LOWEST
from pubsub.protocol.answers import TopicClients
from pubsub.protocol.replies import PresentClient


async def list_present(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    request[IDENTITY].require_subscribe(name)
    broker, cluster = request.app[BROKER], read_cluster(request)
    present = broker.presence(name)
    if cluster is None and CLUSTER in request.app:
        present = await present_here(broker.clients.here(broker.topic(name)))
    return render(TopicClients(name, present.count, present.clients))


async def present_here(clients: ClientsOfTopic | None) -> Present:
    """The clients with connections to this server, looked for in slices: most may be elsewhere."""
    found: list[PresentClient] = []
    first = ""
    while clients is not None and (some := clients.here_from(first, ROWS_AT_ONCE)):
        found += [each for each in some if each.connections]
        if len(found) >= MAX_SHOWN:
            break
        first = some[-1].client_id + LOWEST
        await asyncio.sleep(0)
    return Present(0 if clients is None else clients.here, found[:MAX_SHOWN])
