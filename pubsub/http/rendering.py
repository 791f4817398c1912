"""Bodies: those of requests as text, those of answers as JSON. Every failure becomes ``{"error": …}`` here.

Nothing here knows a route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.http.app_keys import BROKER
from pubsub.http.server_header import SERVER
from pubsub.protocol.errors import BadRequest, Failure, Internal, error_body
from pubsub.protocol.replies import encode

log = logging.getLogger(__name__)

ROWS_AT_ONCE: Final = 1000  # rows made at a stretch: about 1 ms
BYTES_AT_ONCE: Final = 256 * 1024  # or so many: a client may have thousands of subscriptions

Row = TypeVar("Row")


async def read_text(request: web.Request) -> str:
    """The body as text. Invalid UTF-8 never reaches a decoder that would let it through. Raises BadRequest."""
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"body: not UTF-8 at byte {error.start}") from None


async def render_rows(shown: Iterable[Row], row: Callable[[Row], bytes | None]) -> bytes:
    """The rows parted by commas, made in slices, so that a long list keeps no other client waiting; None is no row."""
    slices: list[bytes] = []
    rows: list[bytes] = []
    size = 0
    for number, each in enumerate(shown, 1):
        if (rendered := row(each)) is not None:
            rows.append(rendered)
            size += len(rendered)
        if number % ROWS_AT_ONCE == 0 or size > BYTES_AT_ONCE:
            _end_slice(slices, rows)
            size = 0
            await asyncio.sleep(0)
    _end_slice(slices, rows)
    return b",".join(slices)


def _end_slice(slices: list[bytes], rows: list[bytes]) -> None:
    """Join the rows at once: to join and to free 100,000 in the end takes 5 ms."""
    if rows:
        slices.append(b",".join(rows))
        rows.clear()


def render(answer: msgspec.Struct, *, status: int = 200) -> web.Response:
    return render_bytes(encode(answer), status=status)


def render_bytes(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers={"Server": SERVER})


def render_failure(failure: Failure) -> web.Response:
    response = render_bytes(error_body(failure.rest_text, failure.details), status=failure.status)
    response.headers.update(failure.headers)
    return response


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where a failed request becomes ``{"error": …}``, whatever its path and method."""
    request.app[BROKER].yield_core()  # what follows takes 150 µs
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
