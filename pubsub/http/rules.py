"""``GET /rules``: the rules for topics."""

from __future__ import annotations

from aiohttp import web

from pubsub.http.app_keys import BROKER
from pubsub.http.rendering import render_bytes, render_rows
from pubsub.protocol.replies import encode


async def list_rules(request: web.Request) -> web.Response:
    return render_bytes(b'{"rules":[%b]}' % await render_rows(request.app[BROKER].rules.listed, encode))
