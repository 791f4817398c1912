"""``GET /topics/{name}/events`` and ``GET /events``: the checks before a stream, and the takeover of the socket.

Everything that can be wrong is an answer of its own. Once the head of the stream is sent, no handler is left.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from aiohttp import web

from pubsub.auth.identity import Identity
from pubsub.core.catchup import ReplayStart
from pubsub.http.app_keys import STREAMS
from pubsub.http.handshake import check_room, read_client_id
from pubsub.http.identities import IDENTITIES
from pubsub.http.origins import ORIGINS
from pubsub.http.rendering import read_number
from pubsub.http.server_header import SERVER
from pubsub.http.sharing import sharing_headers
from pubsub.protocol.errors import BadRequest, Failure
from pubsub.protocol.mistakes import shown
from pubsub.protocol.requests import Position
from pubsub.sse.positions import DISCONNECTED, read_position
from pubsub.websocket.upgrade import TakenOver, detach

PARAMETERS: Final = ("last_n", "last_event_id", "client_id", "token")
HEAD: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx buffers other answers
    "Connection": "close",  # the end of the stream is that of the connection, so that all clients get the same bytes
    "Server": SERVER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What the client asks for. ``client_id`` and ``last_event_id`` are empty where it sends none."""

    names: Sequence[str]
    client_id: str
    last_event_id: str
    last_n: int


async def open_topic_stream(request: web.Request) -> web.StreamResponse:
    check_parameters(request, PARAMETERS)
    return await open_stream(request, [request.match_info["name"]])


async def open_stream_of_query(request: web.Request) -> web.StreamResponse:
    check_parameters(request, ("topic", *PARAMETERS))
    names = request.query.getall("topic", [])
    if not names:
        raise BadRequest("topic: required, but missing")
    return await open_stream(request, names)


async def open_stream(request: web.Request, names: Sequence[str]) -> web.StreamResponse:
    """Answer with the head of a stream, and give the socket to an EventStream."""
    request.app[ORIGINS].check_origin(request)
    asked = read_request(request, names)
    identity = await identify(request, asked)
    if asked.last_event_id == DISCONNECTED:
        return web.Response(status=204, headers={"Server": SERVER})  # an EventSource does not connect again
    starts = await find_starts(request, asked)
    name = identity.client_id or asked.client_id or f"client-{secrets.token_hex(6)}"
    check_room(request, name, is_stranger=False)
    head = HEAD if asked.client_id else HEAD | {"X-Client-Id": name}
    if request.method == "HEAD":
        response = web.Response(headers=head)
        response.force_close()
        return response
    begin(request, head, starts, name=name, identity=identity)
    return TakenOver()


async def identify(request: web.Request, asked: StreamRequest) -> Identity:
    """The client, if it may subscribe to what it asks for. Raises Unauthorized, RateLimited, Forbidden, BadRequest."""
    identities = request.app[IDENTITIES]
    identity = await identities.identify_reader(request)
    identities.count(request, identity, asked.client_id)
    if identity.client_id:
        identity.require_client_id(asked.client_id or identity.client_id)
    for name in asked.names:
        identity.require_subscribe(name)
    return identity


def begin(
    request: web.Request, head: dict[str, str], starts: Sequence[ReplayStart], *, name: str, identity: Identity
) -> None:
    """Raises TopicNotFound, ConnectionResetError; nothing is awaited, so that nothing changes meanwhile."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left")

    def take() -> None:
        detach(request).write(head_bytes(head | sharing_headers(request)))

    request.app[STREAMS].begin(transport, starts, client_id=name, expires=identity.expires, take=take)


def head_bytes(fields: dict[str, str]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in {**fields, "Date": formatdate(usegmt=True)}.items()]
    return f"HTTP/1.1 200 OK\r\n{''.join(lines)}\r\n".encode()


def check_parameters(request: web.Request, known: Sequence[str]) -> None:
    """Raise BadRequest for a parameter that is unknown, or there twice; ``topic`` may be."""
    for name in request.query:
        if name not in known:
            raise BadRequest(f"{shown(name)}: unknown here; expected {', '.join(known)}")
        if name != "topic" and len(request.query.getall(name)) > 1:
            raise BadRequest(f"{name}: expected it once")


def read_request(request: web.Request, names: Sequence[str]) -> StreamRequest:
    """Raises BadRequest."""
    if request.body_exists:
        raise BadRequest("body: expected none")
    return StreamRequest(
        names=names,
        client_id=read_client_id(request),
        last_event_id=read_last_event_id(request),
        last_n=read_number(request, "last_n", 0, 0, 1 << 53),
    )


def read_last_event_id(request: web.Request) -> str:
    """The id from which a client resumes; an EventSource sends it as a header field. Raises BadRequest."""
    fields = request.headers.getall("Last-Event-ID", [])
    if len(fields) > 1:
        raise BadRequest("Last-Event-ID: expected it once")
    return "".join(fields) or request.query.get("last_event_id", "")


async def find_starts(request: web.Request, asked: StreamRequest) -> list[ReplayStart]:
    position = read_position(asked.last_event_id) if asked.last_event_id else None
    return [await find_start(request, name, asked.last_n, position) for name in asked.names]


async def find_start(request: web.Request, name: str, last_n: int, position: Position | None) -> ReplayStart:
    """Raises TopicNotFound, BadRequest, NotStored."""
    found: asyncio.Future[ReplayStart | Failure] = asyncio.get_running_loop().create_future()
    request.app[STREAMS].find_start(
        name, last_n, position, lambda start: None if found.done() else found.set_result(start)
    )
    if isinstance(start := await found, Failure):
        raise start
    return start
