"""``GET /ws``: who is there, the handshake by aiohttp, and the change of hands."""

from __future__ import annotations

import secrets

from aiohttp import web

from pubsub.access import ACCESS
from pubsub.connection import Connection
from pubsub.errors import BadRequest, Draining
from pubsub.handover import Handshake, came_early, detach
from pubsub.protocol import MAX_CLIENT_ID
from pubsub.rest import CONNECTIONS, STATE


class UpgradeRequired(web.HTTPClientError):
    """RFC 6455, 4.4: the client is told which version is spoken here."""

    status_code = 426


async def open_websocket(request: web.Request) -> web.StreamResponse:
    """Answer the handshake, then hand the socket to a Connection. See ``handover`` for how."""
    if request.app[STATE].closing:
        raise Draining
    check_handshake(request)
    access, connections = request.app[ACCESS], request.app[CONNECTIONS]
    access.check_origin(request)
    connections.quotas.check_room(len(connections))
    client_id = request.query.get("client_id", "")
    if len(client_id) > MAX_CLIENT_ID:
        raise BadRequest(f"client_id: expected at most {MAX_CLIENT_ID} characters, got {len(client_id)}")
    identity = await access.identify_client(request)
    if identity is not None:
        identity.require_client_id(client_id or identity.client_id)
    if came_early(request):
        raise BadRequest("frames came before the handshake was answered")
    handshake = Handshake(compress=False)
    name = client_id or (identity.client_id if identity is not None else f"client-{secrets.token_hex(6)}")
    connections.quotas.check_claim(name)
    if not client_id:
        handshake.headers["X-Client-Id"] = name
    await handshake.prepare(request)
    transport = detach(request)
    named = bool(client_id) or identity is not None
    Connection(transport, connections, client_id=name, named=named, identity=identity).open()
    return handshake


def check_handshake(request: web.Request) -> None:
    """What aiohttp does not check itself (RFC 6455, 4.1 and 4.2.1)."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise BadRequest("Upgrade: expected websocket; this path is for WebSocket clients")
    if request.headers.get("Sec-WebSocket-Version") != "13":
        raise UpgradeRequired(text="Sec-WebSocket-Version: expected 13", headers={"Sec-WebSocket-Version": "13"})
