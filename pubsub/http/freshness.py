"""Requests about topics of which another server may know more: they are answered again once this one knows as much."""

from __future__ import annotations

from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.http.app_keys import BROKER
from pubsub.http.routes import RouteRole, find_route
from pubsub.http.waiting import ended
from pubsub.protocol.errors import NotStored, TopicExists, TopicNotFound


@web.middleware
async def heed_other_servers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where an answer waits for what other servers have done. A server alone does without.

    Raises NotStored as long as no topics are known.
    """
    broker = request.app[BROKER]
    if not broker.knows_topics and (route := find_route(request)) is not None and route.role is not RouteRole.NONE:
        raise NotStored
    try:
        return await handler(request)
    except (TopicNotFound, TopicExists):
        await ended(partial(broker.sync))
    return await handler(request)
