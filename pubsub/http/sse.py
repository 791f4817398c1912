"""``GET /topics/{name}/events`` and ``GET /events``: the checks before a stream, and the takeover of the socket.

Everything that can be wrong is an answer of its own. Once the head of the stream is sent, no handler is left.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from email.utils import formatdate
from functools import partial
from typing import Final

from aiohttp import web
from msgspec import UNSET, Raw, UnsetType

from pubsub.auth.identity import Identity
from pubsub.http.app_keys import STREAMS
from pubsub.http.compression import accepts_gzip
from pubsub.http.cursors import find_elsewhere
from pubsub.http.handshake import check_room, read_client_id
from pubsub.http.identities import ANYONE, IDENTITIES, Identities
from pubsub.http.origins import ORIGINS
from pubsub.http.query import read_query
from pubsub.http.server_header import SERVER
from pubsub.http.sharing import sharing_headers
from pubsub.http.waiting import answered
from pubsub.protocol.calls import StreamQuery, TopicStreamQuery
from pubsub.protocol.errors import BadRequest, Draining, TopicNotFound, Unauthorized
from pubsub.sse.gzip import HEADER
from pubsub.sse.opening import Opening, Wanted
from pubsub.sse.positions import DISCONNECTED
from pubsub.websocket.upgrade import TakenOver, detach

HEAD: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx buffers other answers
    "Connection": "close",  # the end of the stream is that of the connection, so that all clients get the same bytes
    "Server": SERVER,
}

GZIPPED: Final = {"Content-Encoding": "gzip"}


async def open_topic_stream(request: web.Request) -> web.StreamResponse:
    identity = await identify(request)
    return await open_stream(request, identity, [request.match_info["name"]], read_query(request, TopicStreamQuery))


async def open_stream_of_query(request: web.Request) -> web.StreamResponse:
    identity = await identify(request)
    query = read_query(request, StreamQuery)
    return await open_stream(request, identity, list(dict.fromkeys(query.topic)), query)


async def identify(request: web.Request) -> Identity | None:
    """The client; None if the server asks for no credentials. Raises Unauthorized, RateLimited, Forbidden."""
    identities = request.app[IDENTITIES]
    request.app[ORIGINS].check_origin(request)
    identity = await identities.identify_reader(request)
    if identity is ANYONE:
        identities.count(request, identity, request.query.get("client_id", ""))
        return None
    identities.count(request, identity)
    return identity


async def open_stream(
    request: web.Request, identity: Identity | None, names: Sequence[str], query: TopicStreamQuery
) -> web.StreamResponse:
    """Answer with the head of a stream, and give the socket to an EventStream."""
    if request.body_exists:
        raise BadRequest("body: expected none")
    wanted, asked_name = read_wanted(request, names, query), read_client_id(request)
    if identity is not None:
        identity.require_client_id(asked_name or identity.client_id)
    if wanted.last_event_id == DISCONNECTED:
        return web.Response(status=204, headers={"Server": SERVER})  # an EventSource does not connect again
    wanted = await find_elsewhere(request.app, wanted)
    name = identity.client_id if identity is not None else asked_name or f"client-{secrets.token_hex(6)}"
    if request.transport is None:
        raise ConnectionResetError("the client left")
    streams = request.app[STREAMS]
    gzip = streams.gzip if accepts_gzip(request) else None
    opening = Opening(streams, request.transport, wanted, client_id=name, identity=identity, gzip=gzip)
    head = HEAD | ({} if asked_name else {"X-Client-Id": name})
    try:
        await subscribe(opening)
        check_credentials(request.app[IDENTITIES], identity)
        check_room(request.app, name, is_stranger=False)
        return begin(request, opening, head, gzipped=gzip is not None)
    except BaseException as failure:
        opening.abandon()
        if isinstance(failure, Draining):
            return answer_whole(HEAD, streams.draining_block())
        raise


def check_credentials(identities: Identities, identity: Identity | None) -> None:
    """Raise Unauthorized for a client that would not be let in any more: the settings may have changed meanwhile."""
    if identity is not None:
        identities.check_proof(identity)
    elif not identities.streams_are_open:
        raise Unauthorized("key or token: required now")


async def subscribe(opening: Opening) -> None:
    """Raises a Failure."""
    for asked in opening.requests():
        try:
            opening.add(await answered(partial(opening.subscribe, asked)))
        except TopicNotFound as failure:
            opening.pass_over(asked, failure)
    for _ in opening.note_positions():
        await asyncio.sleep(0)


def begin(request: web.Request, opening: Opening, head: dict[str, str], *, gzipped: bool) -> web.StreamResponse:
    """Begin the stream. Nothing is awaited, so that nothing changes meanwhile. Raises TopicNotFound."""
    opening.confirm()
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("the client left")
    if request.method == "HEAD":
        opening.abandon()
        return answer_whole(head, b"")
    start = head_bytes(head | sharing_headers(request) | (GZIPPED if gzipped else {})) + (HEADER if gzipped else b"")
    opening.begin(lambda: detach(request).write(start))
    return TakenOver()


def answer_whole(head: dict[str, str], body: bytes) -> web.Response:
    """A stream that has ended. With a 503 in its place, as from a server that shuts down, an EventSource would stop."""
    response = web.Response(headers=head, body=body)
    response.force_close()
    return response


def head_bytes(fields: dict[str, str]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in {**fields, "Date": formatdate(usegmt=True)}.items()]
    return f"HTTP/1.1 200 OK\r\n{''.join(lines)}\r\n".encode()


def read_wanted(request: web.Request, names: Sequence[str], query: TopicStreamQuery) -> Wanted:
    """Raises BadRequest."""
    return Wanted(
        names=names,
        last_n=query.last_n,
        last_event_id=read_last_event_id(request) or query.last_event_id,
        filter=query.filter,
        params=UNSET if isinstance(query.params, UnsetType) else Raw(query.params.encode()),
    )


def read_last_event_id(request: web.Request) -> str:
    """The header field by which an EventSource resumes; empty without one. Raises BadRequest."""
    fields = request.headers.getall("Last-Event-ID", [])
    if len(fields) > 1:
        raise BadRequest("Last-Event-ID: expected it once")
    return "".join(fields)
