"""Requests about topics of which another server may know more: they are answered again once this one knows as much."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.http.app_keys import BROKER
from pubsub.http.waiting import ended
from pubsub.protocol.errors import NotAnswered, TopicExists, TopicNotFound

LISTS: Final = {"/topics", "/stats"}  # the answer without topics looks like that of servers that have none


@web.middleware
async def heed_other_servers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where an answer waits for what other servers have done. A server alone does without.

    Raises NotAnswered for a list of topics as long as none is known.
    """
    broker = request.app[BROKER]
    if request.path in LISTS and not broker.knows_topics:
        raise NotAnswered
    try:
        return await handler(request)
    except (TopicNotFound, TopicExists):
        await ended(broker.sync)
    return await handler(request)
