"""The REST routes. A handler reads, calls the Broker once and renders; nothing about topics is decided here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.core.broker import Broker
from pubsub.core.log import Done
from pubsub.core.ring import Ring
from pubsub.core.topic import Topic
from pubsub.http.access import IDENTITY
from pubsub.protocol.errors import BadRequest, Failure, Internal, error_body
from pubsub.protocol.mistakes import explain
from pubsub.protocol.replies import encode
from pubsub.protocol.requests import OVERFLOWS, NewTopic, TopicOptions
from pubsub.websocket.connections import Connections
from pubsub.websocket.services import Services

log = logging.getLogger(__name__)

SLICE: Final = 1000  # rows made at a stretch: about 1 ms
SLICE_BYTES: Final = 256 * 1024  # or so many: a client may have thousands of subscriptions

Row = TypeVar("Row")

BROKER: Final = web.AppKey("broker", Broker)
CONNECTIONS: Final = web.AppKey("connections", Connections)
SERVICES: Final = web.AppKey("services", Services)


class ServerState:
    """What ``/health`` tells beside the Broker's counts.

    ``draining``: shutdown has begun, but everyone is still served. ``closing``: clients are being closed.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.draining = False
        self.closing = False
        self.journal_closed = False


STATE: Final = web.AppKey("state", ServerState)


_decode_new_topic = msgspec.json.Decoder(NewTopic).decode


def add_routes(app: web.Application) -> None:
    app.router.add_post("/topics", create_topic)
    app.router.add_get("/topics", list_topics)
    app.router.add_get("/topics/{name}", describe_topic)
    app.router.add_delete("/topics/{name}", delete_topic)
    app.router.add_get("/health", health)
    app.router.add_get("/stats", stats)


async def create_topic(request: web.Request) -> web.Response:
    text = await read_text(request)
    try:
        wanted = _decode_new_topic(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text, OVERFLOWS)
    options = TopicOptions(**{name: getattr(wanted, name) for name in TopicOptions.__struct_fields__})
    await ended(partial(request.app[BROKER].create_topic, wanted.name, options))
    return render({"status": "created", "topic": wanted.name}, status=201)


async def describe_topic(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    request[IDENTITY].require_subscribe(name)
    topic = request.app[BROKER].find_topic(name)
    kept = topic.stored_bytes if topic.first else await ring_bytes(topic.ring)
    return render(
        {
            "name": topic.name,
            "epoch": topic.epoch,
            "seq": topic.seq,
            "messages": topic.seq,
            "subscribers": topic.subscribers,
            "bytes": kept,
            "options": topic.options,
        }
    )


async def ring_bytes(ring: Ring) -> int:
    """Counted in slices, so that a long ring keeps no one else waiting."""
    total, newest = 0, ring.newest
    after = ring.oldest - 1
    while after < newest and (events := ring.after(after, SLICE)):
        total += sum(len(event.text) for event in events)
        after = events[-1].seq
        await asyncio.sleep(0)
    return total


async def delete_topic(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await ended(partial(request.app[BROKER].delete_topic, name))
    return render({"status": "deleted", "topic": name})


async def ended(begin: Callable[[Done], None]) -> None:
    """Wait for the end of what the Broker may end later. Raises the Failure that it ends with."""
    end: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
    begin(lambda failure: None if end.done() else end.set_result(failure))
    if (failure := await end) is not None:
        raise failure


async def list_topics(request: web.Request) -> web.Response:
    identity = request[IDENTITY]

    def row(topic: Topic) -> bytes | None:
        if not identity.may_subscribe(topic.name):
            return None
        return encode({"name": topic.name, "subscribers": topic.subscribers})

    return render_bytes(b'{"topics":[%b]}' % await render_rows(request.app[BROKER].topics, row))


async def stats(request: web.Request) -> web.Response:
    identity = request[IDENTITY]

    def row(topic: Topic) -> bytes | None:
        if not identity.may_subscribe(topic.name):
            return None
        return b"%b:%b" % (encode(topic.name), encode({"messages": topic.seq, "subscribers": topic.subscribers}))

    return render_bytes(b'{"topics":{%b}}' % await render_rows(request.app[BROKER].topics, row))


async def health(request: web.Request) -> web.Response:
    broker, state = request.app[BROKER], request.app[STATE]
    report: dict[str, Any] = {
        "uptime_sec": int(time.monotonic() - state.started),
        "topics": broker.topic_count,
        "subscribers": broker.subscriber_count,
    }
    if state.draining:
        return render(report | {"status": "draining"}, status=503)
    if broker.failure:
        return render(report | {"status": "degraded", "reason": broker.failure})
    return render(report)


async def read_text(request: web.Request) -> str:
    """The body as text; what has invalid UTF-8 in it never reaches a decoder that would let it through."""
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"body: not UTF-8 at byte {error.start}") from None


async def render_rows(shown: Iterable[Row], row: Callable[[Row], bytes | None]) -> bytes:
    """The rows parted by commas, made in slices, so that a long list keeps no one else waiting; None is no row."""
    rows: list[bytes] = []
    size = 0
    for number, each in enumerate(shown, 1):
        if (rendered := row(each)) is not None:
            rows.append(rendered)
            size += len(rendered)
        if number % SLICE == 0 or size > SLICE_BYTES:
            size = 0
            await asyncio.sleep(0)
    return b",".join(rows)


def render(body: object, *, status: int = 200) -> web.Response:
    return render_bytes(encode(body), status=status)


def render_bytes(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def render_failure(failure: Failure) -> web.Response:
    response = render_bytes(error_body(failure.rest_text), status=failure.status)
    response.headers.update(failure.headers)
    return response


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where a failed request becomes ``{"error": …}``, whatever its path and method."""
    request.app[BROKER].give_way()  # what follows takes 150 µs
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response(status=499)  # to nobody: the client has left in the middle of its request
    except Failure as failure:
        response = render_failure(failure)
    except web.RequestPayloadError:
        response = render_failure(BadRequest("body: not encoded as its header fields say"))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = _render_http_error(error)
    except Exception:
        log.exception("Internal error at %(method)s %(path)s", {"method": request.method, "path": request.path})
        response = render_failure(Internal())
    if response.status in (408, 413):
        response.force_close()  # what the client sends next is no request
    return response


def _render_http_error(error: web.HTTPException) -> web.Response:
    generic = error.text is None or error.text == f"{error.status}: {error.reason}"
    response = render_bytes(error_body(error.reason.lower() if generic else str(error.text)), status=error.status)
    for name in ("Allow", "Sec-WebSocket-Version"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response
