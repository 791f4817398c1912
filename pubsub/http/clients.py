"""``GET /clients`` and ``DELETE /clients/{client_id}``: the connections, and the disconnection of a client."""

from __future__ import annotations

from aiohttp import web

from pubsub.http.app_keys import CONNECTIONS
from pubsub.http.query import read_query
from pubsub.http.rendering import render, render_bytes, render_rows
from pubsub.protocol.answers import ClientDisconnected, ClientRow
from pubsub.protocol.calls import ClientsQuery
from pubsub.protocol.errors import ClientNotFound
from pubsub.protocol.replies import encode
from pubsub.websocket.peer import Peer


async def list_clients(request: web.Request) -> web.Response:
    """A page of connections, oldest first. A connection that stays is in exactly one of the pages that follow."""
    wanted = read_query(request, ClientsQuery)
    page = request.app[CONNECTIONS].page(wanted.cursor, wanted.limit + 1)
    following = page[wanted.limit - 1].number if len(page) > wanted.limit else None
    rows = await render_rows(page[: wanted.limit], lambda peer: encode(describe(peer)))
    return render_bytes(b'{"clients":[%b],"next":%b}' % (rows, encode(following and str(following))))


def describe(peer: Peer) -> ClientRow:
    subscriber, traffic = peer.subscriber, peer.traffic()
    return ClientRow(
        client_id=peer.client_id,
        connected_sec=int(peer.age),
        subscriptions=subscriber.subscriptions,
        queued=subscriber.queued,
        dropped=subscriber.dropped,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
    )


async def disconnect_client(request: web.Request) -> web.Response:
    client_id = request.match_info["client_id"]
    count = await request.app[CONNECTIONS].disconnect(client_id)
    if not count:
        raise ClientNotFound
    return render(ClientDisconnected(client_id=client_id, connections=count))
