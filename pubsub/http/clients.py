"""``GET /clients`` and ``DELETE /clients/{client_id}``: who is connected, and sending them away."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from pubsub.http.topics import CONNECTIONS, render, render_bytes, render_rows
from pubsub.protocol.errors import BadRequest, ClientNotFound
from pubsub.protocol.replies import encode
from pubsub.websocket.peer import Peer

PAGE: Final = 100
LARGEST_PAGE: Final = 1000


def add_client_routes(app: web.Application) -> None:
    app.router.add_get("/clients", list_clients)
    app.router.add_delete("/clients/{client_id}", disconnect_client)


async def list_clients(request: web.Request) -> web.Response:
    """A page of connections, oldest first. A connection that stays is in exactly one of the pages that follow."""
    after, size = read_number(request, "cursor", 0, 0, 1 << 53), read_number(request, "limit", PAGE, 1, LARGEST_PAGE)
    page = request.app[CONNECTIONS].page(after, size + 1)
    following = page[size - 1].number if len(page) > size else None
    rows = await render_rows(page[:size], lambda peer: encode(describe(peer)))
    return render_bytes(b'{"clients":[%b],"next":%b}' % (rows, encode(following and str(following))))


def describe(peer: Peer) -> dict[str, Any]:
    subscriber, traffic = peer.subscriber, peer.traffic()
    return {
        "client_id": peer.client_id,
        "connected_sec": int(peer.age),
        "subscriptions": subscriber.subscriptions,
        "queued": subscriber.queued,
        "dropped": subscriber.dropped,
        "bytes_in": traffic.bytes_in,
        "bytes_out": traffic.bytes_out,
    }


async def disconnect_client(request: web.Request) -> web.Response:
    client_id = request.match_info["client_id"]
    count = await request.app[CONNECTIONS].disconnect(client_id)
    if not count:
        raise ClientNotFound
    return render({"status": "disconnected", "client_id": client_id, "connections": count})


def read_number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query. Raises BadRequest."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = msgspec.convert(text, int, strict=False)
    except msgspec.ValidationError:
        number = -1
    if not least <= number <= most:
        raise BadRequest(f"{name}: expected a whole number from {least} to {most}")
    return number
