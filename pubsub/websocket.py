"""``GET /ws``: who is there, the handshake by aiohttp, and the change of hands."""

from __future__ import annotations

import secrets
from typing import Final

from aiohttp import web

from pubsub.connection import Connection
from pubsub.connections import Connections
from pubsub.errors import BadRequest, Draining
from pubsub.handover import Handshake, came_early, detach
from pubsub.protocol import MAX_CLIENT_ID
from pubsub.rest import STATE

CONNECTIONS: Final = web.AppKey("connections", Connections)


class UpgradeRequired(web.HTTPClientError):
    """RFC 6455, 4.4: the client is told which version is spoken here."""

    status_code = 426


async def open_websocket(request: web.Request) -> web.StreamResponse:
    """Answer the handshake, then hand the socket to a Connection. See ``handover`` for how."""
    if request.app[STATE].closing:
        raise Draining
    check_handshake(request)
    client_id = request.query.get("client_id", "")
    if len(client_id) > MAX_CLIENT_ID:
        raise BadRequest(f"client_id: expected at most {MAX_CLIENT_ID} characters, got {len(client_id)}")
    handshake = Handshake(compress=False)
    if not client_id:
        handshake.headers["X-Client-Id"] = made_up = f"client-{secrets.token_hex(6)}"
    await handshake.prepare(request)
    transport = detach(request)
    Connection(transport, request.app[CONNECTIONS], client_id=client_id or made_up, named=bool(client_id)).open()
    return handshake


def check_handshake(request: web.Request) -> None:
    """What aiohttp does not check itself (RFC 6455, 4.1 and 4.2.1)."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise BadRequest("Upgrade: expected websocket; this path is for WebSocket clients")
    if request.headers.get("Sec-WebSocket-Version") != "13":
        raise UpgradeRequired(text="Sec-WebSocket-Version: expected 13", headers={"Sec-WebSocket-Version": "13"})
    if came_early(request):
        raise BadRequest("frames came before the handshake was answered")
