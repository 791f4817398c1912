"""``/clients``: the connections that are open, those that have ended, and the disconnection of a client."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from pubsub.http.app_keys import CONNECTIONS
from pubsub.http.client_pages import FIRST, Wanted, find_ended, find_page
from pubsub.http.query import read_query
from pubsub.http.rendering import render, render_bytes
from pubsub.http.scope import ask_others, cluster_for, missing_field, missing_of, read_cluster
from pubsub.protocol.answers import ClientDisconnected
from pubsub.protocol.calls import ClientQuery, ClientsQuery, read_cursor
from pubsub.protocol.errors import ClientNotFound
from pubsub.protocol.replies import encode

DISCONNECT: Final = "disconnect"

_encode = msgspec.msgpack.Encoder().encode
_decode_client = msgspec.msgpack.Decoder(str).decode
_decode_count = msgspec.msgpack.Decoder(int).decode


async def list_clients(request: web.Request) -> web.Response:
    """A page of connections, oldest first. A connection that stays is in exactly one of the pages that follow."""
    asked = read_query(request, ClientsQuery)
    wanted, cluster = Wanted(prefix=asked.prefix, limit=asked.limit), cluster_for(request, asked.scope)
    find = find_ended if asked.ended else find_page
    page = await find(request.app, cluster, wanted, read_cursor(asked.cursor))
    form = b'{"clients":[%b],"next":%b%b}'
    return render_bytes(form % (page.rows, encode(page.following), missing_field(page.missing)))


async def describe_client(request: web.Request) -> web.Response:
    client_id, asked = request.match_info["client_id"], read_query(request, ClientQuery)
    wanted, cluster = Wanted(client_id=client_id, limit=asked.limit), cluster_for(request, asked.scope)
    page, ended = await asyncio.gather(
        find_page(request.app, cluster, wanted, read_cursor(asked.cursor)),
        find_ended(request.app, cluster, wanted, FIRST),
    )
    missing = sorted({*page.missing, *ended.missing})
    if not page.rows and not ended.rows:
        raise ClientNotFound(missing)
    form = b'{"client_id":%b,"connections":[%b],"next":%b,"ended":[%b]%b}'
    return render_bytes(
        form % (encode(client_id), page.rows, encode(page.following), ended.rows, missing_field(missing))
    )


async def disconnect_client(request: web.Request) -> web.Response:
    client_id, cluster = request.match_info["client_id"], read_cluster(request)
    others = await ask_others(cluster, DISCONNECT, _encode(client_id))
    count = await request.app[CONNECTIONS].disconnect(client_id) + sum(map(_decode_count, others.found.values()))
    if not count:
        raise ClientNotFound(others.missing)
    return render(ClientDisconnected(client_id=client_id, connections=count, missing=missing_of(others.missing)))


async def answer_disconnect(app: web.Application, body: bytes) -> bytes:
    """Disconnect a client for another server: the number of its connections here."""
    return _encode(await app[CONNECTIONS].disconnect(_decode_client(body)))
