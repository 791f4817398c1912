"""``GET /topics/{name}/events`` and ``GET /events``: the checks before a stream, and the takeover of the socket.

Everything that can be wrong is an answer of its own. Once the head of the stream is sent, no handler is left.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from email.utils import formatdate
from typing import Final

from aiohttp import web
from msgspec import UNSET, Raw

from pubsub.auth.identity import Identity
from pubsub.core.subscription import Asked
from pubsub.http.app_keys import STREAMS
from pubsub.http.handshake import check_room, read_client_id
from pubsub.http.identities import ANYONE, IDENTITIES
from pubsub.http.origins import ORIGINS
from pubsub.http.rendering import read_number
from pubsub.http.server_header import SERVER
from pubsub.http.sharing import sharing_headers
from pubsub.protocol.errors import BadRequest, Failure, TopicNotFound
from pubsub.protocol.mistakes import shown
from pubsub.sse.opening import Opening, Wanted
from pubsub.sse.positions import DISCONNECTED
from pubsub.websocket.upgrade import TakenOver, detach

MAX_NAMES: Final = 100  # names and patterns of one stream; a pattern takes any number of topics
PARAMETERS: Final = ("last_n", "last_event_id", "filter", "params", "client_id", "token")
HEAD: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx buffers other answers
    "Connection": "close",  # the end of the stream is that of the connection, so that all clients get the same bytes
    "Server": SERVER,
}


async def open_topic_stream(request: web.Request) -> web.StreamResponse:
    return await open_stream(request, [request.match_info["name"]], PARAMETERS)


async def open_stream_of_query(request: web.Request) -> web.StreamResponse:
    return await open_stream(request, request.query.getall("topic", []), ("topic", *PARAMETERS))


async def open_stream(request: web.Request, names: Sequence[str], parameters: Sequence[str]) -> web.StreamResponse:
    """Answer with the head of a stream, and give the socket to an EventStream."""
    request.app[ORIGINS].check_origin(request)
    identity = await identify(request)
    check_parameters(request, parameters)
    wanted = read_wanted(request, names)
    asked_name = read_client_id(request)
    if identity is not None:
        identity.require_client_id(asked_name or identity.client_id)
    if wanted.last_event_id == DISCONNECTED:
        return web.Response(status=204, headers={"Server": SERVER})  # an EventSource does not connect again
    name = identity.client_id if identity is not None else asked_name or f"client-{secrets.token_hex(6)}"
    if request.transport is None:
        raise ConnectionResetError("the client left")
    opening = Opening(request.app[STREAMS], request.transport, wanted, client_id=name, identity=identity)
    try:
        await subscribe(opening)
        check_room(request.app, name, is_stranger=False)
        return begin(request, opening, HEAD if asked_name else HEAD | {"X-Client-Id": name})
    except BaseException:
        opening.abandon()
        raise


async def identify(request: web.Request) -> Identity | None:
    """The client; None if the server asks for no credentials. Raises Unauthorized, RateLimited."""
    identities = request.app[IDENTITIES]
    identity = await identities.identify_reader(request)
    identities.count(request, identity, request.query.get("client_id", ""))
    return None if identity is ANYONE else identity


async def subscribe(opening: Opening) -> None:
    """Raises a Failure."""
    for asked in opening.requests():
        try:
            await subscribe_to(opening, asked)
        except TopicNotFound as failure:
            opening.pass_over(asked, failure)
    for _ in opening.note_positions():
        await asyncio.sleep(0)


async def subscribe_to(opening: Opening, asked: Asked) -> None:
    outcome: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
    opening.subscribe(asked, lambda failure: None if outcome.done() else outcome.set_result(failure))
    if (failure := await outcome) is not None:
        raise failure


def begin(request: web.Request, opening: Opening, head: dict[str, str]) -> web.StreamResponse:
    """Begin the stream. Nothing is awaited, so that nothing changes meanwhile. Raises TopicNotFound."""
    opening.confirm()
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("the client left")
    if request.method == "HEAD":
        opening.abandon()
        response = web.Response(headers=head)
        response.force_close()
        return response
    opening.begin(lambda: detach(request).write(head_bytes(head | sharing_headers(request))))
    return TakenOver()


def head_bytes(fields: dict[str, str]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in {**fields, "Date": formatdate(usegmt=True)}.items()]
    return f"HTTP/1.1 200 OK\r\n{''.join(lines)}\r\n".encode()


def check_parameters(request: web.Request, known: Sequence[str]) -> None:
    """Raise BadRequest for a parameter that is unknown, or there twice; ``topic`` may be."""
    if request.body_exists:
        raise BadRequest("body: expected none")
    for name in request.query:
        if name not in known:
            raise BadRequest(f"{shown(name)}: unknown here; expected {', '.join(known)}")
        if name != "topic" and len(request.query.getall(name)) > 1:
            raise BadRequest(f"{name}: expected it once")


def read_wanted(request: web.Request, names: Sequence[str]) -> Wanted:
    """Raises BadRequest."""
    if not names:
        raise BadRequest("topic: required, but missing")
    if len(names) > MAX_NAMES:
        raise BadRequest(f"topic: expected at most {MAX_NAMES} names and patterns, got {len(names)}")
    params = request.query.get("params")
    return Wanted(
        names=list(dict.fromkeys(names)),
        last_n=read_number(request, "last_n", 0, 0, 1 << 53),
        last_event_id=read_last_event_id(request),
        filter=request.query.get("filter", UNSET),
        params=UNSET if params is None else Raw(params.encode("utf-8", "surrogateescape")),
    )


def read_last_event_id(request: web.Request) -> str:
    """The id from which a client resumes; an EventSource sends it as a header field. Raises BadRequest."""
    fields = request.headers.getall("Last-Event-ID", [])
    if len(fields) > 1:
        raise BadRequest("Last-Event-ID: expected it once")
    return "".join(fields) or request.query.get("last_event_id", "")
