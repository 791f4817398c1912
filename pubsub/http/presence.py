"""``GET /topics/{name}/presence``: the clients that are in a topic."""

from __future__ import annotations

from aiohttp import web

from pubsub.http.app_keys import BROKER
from pubsub.http.identities import IDENTITY
from pubsub.http.rendering import render
from pubsub.protocol.answers import TopicClients


async def list_present(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    request[IDENTITY].require_subscribe(name)
    present = request.app[BROKER].presence(name)
    return render(TopicClients(name, present.count, present.clients))
