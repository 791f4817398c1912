"""``GET /ws``: the checks before the upgrade, the handshake by aiohttp, and the takeover of the socket."""

from __future__ import annotations

import secrets

from aiohttp import HttpVersion11, web

from pubsub.http.app_keys import SERVICES
from pubsub.http.health import STATE
from pubsub.http.identities import IDENTITIES
from pubsub.http.origins import ORIGINS
from pubsub.http.pipeline import PipelinedRequestHandler
from pubsub.http.server_header import SERVER
from pubsub.protocol.errors import BadRequest, Draining
from pubsub.protocol.requests import MAX_CLIENT_ID
from pubsub.websocket.connection import Connection
from pubsub.websocket.upgrade import Handshake, detach


class UpgradeRequired(web.HTTPClientError):
    """RFC 6455, 4.4: the answer tells the client which version is spoken here."""

    status_code = 426


async def open_websocket(request: web.Request) -> web.StreamResponse:
    """Answer the handshake, then give the socket to a Connection (see websocket/upgrade.py)."""
    check_handshake(request)
    app = request.app
    identities, services = app[IDENTITIES], app[SERVICES]
    app[ORIGINS].check_origin(request)
    asked_name = read_client_id(request)
    identity = await identities.identify_client(request)
    if identity is not None:
        identity.require_client_id(asked_name or identity.client_id)
    handler = request.protocol
    assert isinstance(handler, PipelinedRequestHandler), "the server makes no other"
    if handler.sent_more:
        raise BadRequest("frames came before the handshake was answered")
    # One string: each connection keeps it.
    name = identity.client_id if identity is not None else asked_name or f"client-{secrets.token_hex(6)}"
    if identity is not None:
        identities.check_proof(identity)
    check_room(app, name, is_stranger=identity is None and bool(identities.tokens))
    handshake = Handshake(request)
    handshake.headers["Server"] = SERVER
    if not asked_name:
        handshake.headers["X-Client-Id"] = name
    agreement = services.agree(",".join(request.headers.getall("Sec-WebSocket-Extensions", ())))
    if agreement is not None:
        handshake.headers["Sec-WebSocket-Extensions"] = agreement.answer
    await handshake.prepare(request)
    transport = detach(request)
    named = bool(asked_name) or identity is not None
    Connection(transport, services, client_id=name, named=named, identity=identity, agreement=agreement).open()
    return handshake


def read_client_id(request: web.Request) -> str:
    client_id = request.query.get("client_id", "")
    if len(client_id) > MAX_CLIENT_ID:
        raise BadRequest(f"client_id: expected at most {MAX_CLIENT_ID} characters, got {len(client_id)}")
    return client_id


def check_room(app: web.Application, name: str, *, is_stranger: bool) -> None:
    """Raises Draining, ServerFull, LimitExceeded.

    To be called last: while a client waits for the key of its token the server may become full, or begin to close. A
    stranger's name is only a claim, and counts for no quota before it is shown to be true.
    """
    if app[STATE].closing:
        raise Draining
    services = app[SERVICES]
    services.quotas.check_room(len(services.connections))
    if not is_stranger:
        services.quotas.check_claim(name)


def check_handshake(request: web.Request) -> None:
    """Check the rules that aiohttp does not check itself (RFC 6455, 4.1 and 4.2.1). Raises BadRequest."""
    if request.version < HttpVersion11:
        raise BadRequest("handshake: expected HTTP/1.1")
    if request.body_exists:
        raise BadRequest("handshake: expected no body")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise BadRequest("Upgrade: expected websocket; this path is for WebSocket clients")
    if request.headers.get("Sec-WebSocket-Version") != "13":
        raise UpgradeRequired(text="Sec-WebSocket-Version: expected 13", headers={"Sec-WebSocket-Version": "13"})
